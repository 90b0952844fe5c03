//! Fuzz targets: what must hold for any bytes that a port, a file or a command line brings.
//!
//! `scripts/fuzz TARGET` runs one of them under libFuzzer with AddressSanitizer. The inputs in `corpus/` and, for what
//! has once been wrong, in `crashes/` are run by `cargo test` as well.

#[path = "../../wire/tests/common/naive.rs"]
mod naive;
#[path = "../../openflow/tests/common/nothing.rs"]
mod nothing;

mod guest;
mod openflow;
mod packet;
mod text;

pub use self::openflow::openflow;
pub use guest::virtio;
pub use packet::{frame, tunnel};
pub use text::{rules, toml, vsctl};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("frame", frame),
    ("tunnel", tunnel),
    ("rules", rules),
    ("vsctl", vsctl),
    ("toml", toml),
    ("openflow", openflow),
    ("virtio", virtio),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every input that is kept, through its target.
    #[test]
    fn kept_inputs_hold() {
        for (name, target) in TARGETS {
            let mut count = 0;
            for kind in ["corpus", "crashes"] {
                let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(name);
                for entry in
                    std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
                {
                    let path = entry.expect("an entry").path();
                    println!("{}", path.display());
                    target(&std::fs::read(&path).expect("a file"));
                    count += 1;
                }
            }
            assert!(count > 1, "{name} has no inputs");
        }
    }
}
