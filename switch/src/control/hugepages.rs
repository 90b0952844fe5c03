//! Hugepages: with them if there are any, else without, and said so.

use std::path::Path;

/// Options of EAL that ask for hugepages in a special way, and whether a value follows as a word of its own.
const HUGE_OPTIONS: [(&str, bool); 7] = [
    ("--in-memory", false),
    ("--huge-unlink", false),
    ("--huge-dir", true),
    ("--socket-mem", true),
    ("--socket-limit", true),
    ("--single-file-segments", false),
    ("--match-allocations", false),
];
/// MiB that EAL and the devices need beside the packet buffers.
const BESIDES: u64 = 96;
/// Bytes that a packet buffer costs beside its data: mbuf header, mempool object header and trailer, and padding.
const BUFFER_OVERHEAD: u64 = 384;

/// What EAL is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Arguments, program name first.
    pub args: Vec<String>,
    /// Why not with hugepages, and what was changed; empty when EAL gets what the user wrote.
    pub notes: Vec<String>,
}

/// Bytes of memory that the buffers and all else need. Without hugepages DPDK counts a page for each buffer: it lets none
/// cross a page, for all it knows when it asks for the memory.
fn needed(buffers: u32, size: u32, page: u64) -> u64 {
    let buffer = u64::from(size) + BUFFER_OVERHEAD;
    let bytes = if buffer > page { buffer.next_multiple_of(page) } else { page / (page / buffer) };
    u64::from(buffers) * bytes + (BESIDES << 20)
}

/// Whether EAL can have hugepages: enough free ones for `buffers` of `size` bytes, and a hugetlbfs unless they are taken
/// anonymously.
pub fn available(sys: &Path, mounts: &str, in_memory: bool, buffers: u32, size: u32) -> Result<(), String> {
    let sizes = std::fs::read_dir(sys.join("kernel/mm/hugepages")).into_iter().flatten().flatten();
    let free = sizes.filter_map(|entry| {
        let count =
            std::fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse::<u64>().ok()?;
        let name = entry.file_name().into_string().ok()?;
        let kilobytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
        Some((count * kilobytes) << 10)
    });
    let free: u64 = free.sum();
    if free == 0 {
        return Err("no free hugepages".to_owned());
    }
    // Of 2 MiB; larger ones waste less.
    let needed = needed(buffers, size, 2 << 20);
    if free < needed {
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        return Err(format!(
            "{} MiB of free hugepages, {} needed for {buffers} mbufs",
            megabytes(free),
            megabytes(needed)
        ));
    }
    let mounted = mounts.lines().any(|line| line.split(' ').nth(2) == Some("hugetlbfs"));
    if mounted || in_memory { Ok(()) } else { Err("hugetlbfs is not mounted".to_owned()) }
}

/// Makes EAL's arguments fit the machine. `lack` says why there are no hugepages; `buffers` packet buffers of
/// `size` bytes will be asked for.
pub fn fit(args: &[String], lack: Option<&str>, buffers: u32, size: u32) -> Memory {
    let mut args = args.to_vec();
    let mut notes = Vec::new();
    let asked_without = args.iter().any(|arg| arg == "--no-huge");
    if let Some(lack) = lack.filter(|_| !asked_without) {
        let dropped = drop_options(&mut args);
        args.push("--no-huge".to_owned());
        let without =
            if dropped.is_empty() { String::new() } else { format!(", without {}", dropped.join(" ")) };
        notes.push(format!("{lack}: running with --no-huge{without}; slower, fine for tests"));
    }
    if args.iter().any(|arg| arg == "--no-huge") && !args.iter().skip(1).any(|arg| arg.starts_with("-m")) {
        let megabytes = needed(buffers, size, 4096).div_ceil(1 << 20);
        args.extend(["-m".to_owned(), megabytes.to_string()]);
        notes.push(format!("-m {megabytes}, for {buffers} mbufs of {size} bytes"));
    }
    Memory { args, notes }
}

/// Takes the options out that contradict `--no-huge`; returns them.
fn drop_options(args: &mut Vec<String>) -> Vec<String> {
    let mut dropped = Vec::new();
    let mut kept = Vec::new();
    let mut words = std::mem::take(args).into_iter();
    while let Some(word) = words.next() {
        let (name, has_value) = word.split_once('=').map_or((word.as_str(), false), |(name, _)| (name, true));
        match HUGE_OPTIONS.iter().find(|(option, _)| *option == name) {
            Some((_, value_follows)) => {
                let value = if *value_follows && !has_value { words.next() } else { None };
                dropped.push(word);
                dropped.extend(value);
            }
            None => kept.push(word),
        }
    }
    *args = kept;
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn with_hugepages_nothing_is_touched() {
        let args = words("vxswitch -l 0 --in-memory");
        assert_eq!(fit(&args, None, 1000, 2176), Memory { args, notes: Vec::new() });
    }

    #[test]
    fn without_them_only_what_contradicts_goes() {
        let args = words("vxswitch -l 0 --in-memory --socket-mem 64 --huge-dir=/x --vdev=net_null0");
        let memory = fit(&args, Some("no free hugepages"), 32_767, 2176);
        assert_eq!(memory.args, words("vxswitch -l 0 --vdev=net_null0 --no-huge -m 224"));
        assert!(
            memory.notes[0].contains("without --in-memory --socket-mem 64 --huge-dir=/x"),
            "{:?}",
            memory.notes
        );
        let memory = fit(&words("vxswitch -m 256"), Some("no free hugepages"), 512, 2176);
        assert_eq!(memory.args, words("vxswitch -m 256 --no-huge"));
    }

    #[test]
    fn the_users_own_no_huge_stays() {
        let args = words("vxswitch --no-huge -m 256");
        assert_eq!(fit(&args, Some("no free hugepages"), 1000, 2176), Memory { args, notes: Vec::new() });
        assert_eq!(fit(&words("vxswitch --no-huge"), None, 1 << 20, 1664).args[2..], words("-m 2144"));
    }

    #[test]
    fn what_the_machine_has() {
        let dir = tempfile::tempdir().unwrap();
        let available = |mounts: &str, in_memory| available(dir.path(), mounts, in_memory, 1000, 2176);
        let none = Err("no free hugepages".to_owned());
        assert_eq!(available("", true), none);
        let size = dir.path().join("kernel/mm/hugepages/hugepages-2048kB");
        std::fs::create_dir_all(&size).unwrap();
        let free = |count: &str| std::fs::write(size.join("free_hugepages"), count).unwrap();
        free("0\n");
        assert_eq!(available("", true), none);
        free("12\n");
        let few = Err("24 MiB of free hugepages, 99 needed for 1000 mbufs".to_owned());
        assert_eq!(available("", true), few);
        free("50\n");
        assert_eq!(available("", true), Ok(()));
        assert_eq!(available("", false), Err("hugetlbfs is not mounted".to_owned()));
        assert_eq!(available("nodev /dev/hugepages hugetlbfs rw 0 0\n", false), Ok(()));
    }
}
