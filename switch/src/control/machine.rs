//! What the machine must have, and which CPUs are for what.

use std::fmt::Write as _;

/// What x86-64-v3 asks for besides x86-64-v2, as `/proc/cpuinfo` calls it.
const NEEDED: [&str; 7] = ["avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm"];

/// What the CPU described by `cpuinfo` (the text of `/proc/cpuinfo`) lacks of x86-64-v3; `None` when nothing.
///
/// The text is read rather than CPUID asked, because the compiler, told that the features are there, answers the
/// latter by itself.
pub fn missing_features(cpuinfo: &str) -> Option<String> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !flags.contains(name)).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// The CPUs for the slow path and control: those that the process had and no worker polls on; all of the process's
/// when workers have every one.
pub fn other_cpus(process: &[usize], workers: &[usize]) -> Vec<usize> {
    let free: Vec<usize> = process.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
    if free.is_empty() { process.to_vec() } else { free }
}

/// CPU numbers as EAL writes them: `0-2,5`.
pub fn cpu_list(cpus: &[usize]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < cpus.len() {
        let mut end = at;
        while cpus.get(end + 1).is_some_and(|next| *next == cpus[end] + 1) {
            end += 1;
        }
        let comma = if out.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match end - at {
            0 => write!(out, "{comma}{}", cpus[at]),
            _ => write!(out, "{comma}{}-{}", cpus[at], cpus[end]),
        };
        at = end + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features() {
        let old = "processor: 0\nflags\t\t: fpu sse4_2 movbe avx\n";
        assert_eq!(missing_features(old).unwrap(), "avx2, bmi1, bmi2, fma, f16c, abm");
        assert_eq!(missing_features(&format!("flags : {}", NEEDED.join(" "))), None);
        assert_eq!(missing_features(""), None, "what is not known is not held against the machine");
    }

    #[test]
    fn cpus() {
        assert_eq!(other_cpus(&[0, 1, 2], &[1]), [0, 2]);
        assert_eq!(other_cpus(&[0, 1], &[0, 1]), [0, 1]);
        assert_eq!(cpu_list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(cpu_list(&[]), "");
    }
}
