//! A pool whose mbufs are missing is leaked, not freed under them. Alone in its binary: the count is the process's.

mod common;

use common::{eal, pool};
use rte::mempool::leaked;

#[test]
fn a_pool_outlives_its_mbufs() {
    let eal = eal("0", &[]);
    drop(pool("full", 15));
    assert_eq!(leaked(), 0);
    assert!(!eal.has_hugepages());

    let lossy = pool("lossy", 15);
    let clone = lossy.clone();
    let (mut a, b) = (lossy.alloc().expect("an mbuf"), lossy.alloc().expect("an mbuf"));
    drop(lossy);
    assert_eq!(leaked(), 0, "a handle is left");
    drop(clone);
    assert_eq!(leaked(), 2);
    // Still valid memory: this is what the leak is for.
    a.append(4).expect("tailroom").fill(1);
    drop(a);
    let error = eal.cleanup().expect_err("the leaked pool still lives in EAL's memory");
    assert_eq!(error, rte::Error::StillInUse { live: 1 });
    drop(b);
    assert_eq!(eal.cleanup(), Ok(()), "late, but all came back");
}
