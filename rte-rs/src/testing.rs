//! What this crate's own unit tests share.

use crate::Eal;
use std::sync::OnceLock;

/// The EAL of the test binary, started on a thread of its own, which it pins.
pub(crate) fn eal() -> &'static Eal {
    static EAL: OnceLock<&'static Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let args =
            ["rte-test", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "64", "-l", "0"];
        let start = move || Eal::init(&args.map(String::from)).expect("EAL starts without hugepages").0;
        std::thread::spawn(start).join().expect("EAL's thread does not panic")
    })
}
