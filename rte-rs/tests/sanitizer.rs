//! That AddressSanitizer sees the use of an mbuf that is not ours any more. For scripts/asan.
#![cfg(feature = "asan")]

mod common;

use common::{eal, numbered, pool, start};
use rte::ring;
use std::process::Command;

const CASE: &str = "RTE_TEST_SANITIZER";

/// Reads a byte of a packet after what `case` says happened to it.
fn misuse(case: &str) -> u8 {
    eal("0", &[]);
    let pool = pool("misuse", 63);
    let (a, _b) = ring::pair("misuse_a", "misuse_b", 64, 1).expect("ports");
    let (_port, _rx, mut tx) = start(a, &pool);
    let mut burst = numbered::<4>(&pool, 1);
    let byte = burst[0].data().as_ptr();
    match case {
        "freed" => drop(burst.pop()),
        "freed in bulk" => burst.clear(),
        "sent" => assert_eq!(tx.tx_burst(&mut burst), 1),
        _ => {}
    }
    // SAFETY: none for a packet that is gone: that is what must be seen. Its memory is mapped all the same.
    unsafe { byte.read_volatile() }
}

#[test]
fn a_packet_that_is_gone_is_not_read_unseen() {
    if let Ok(case) = std::env::var(CASE) {
        assert_eq!(misuse(&case), 0);
        return;
    }
    for case in ["freed", "freed in bulk", "sent", "owned"] {
        let mut child = Command::new(std::env::current_exe().expect("a test has a path"));
        let output = child.env(CASE, case).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), case == "owned", "{case}: {said}");
        assert_eq!(said.contains("use-after-poison"), case != "owned", "{case}: {said}");
    }
}
