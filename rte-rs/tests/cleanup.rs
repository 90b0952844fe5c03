//! EAL's end. Alone in its binary: nothing can be done after it.

mod common;

use common::{eal, pool};
use rte::{Eal, Error, Mempool};

#[test]
fn eal_ends_once_and_only_when_nothing_is_left() {
    assert_eq!(Mempool::create("early", 15, 0, 2176, -1).expect_err("no EAL yet"), Error::NotInitialised);
    assert!(rte::port::list().is_empty());
    let eal = eal("0", &[]);
    assert_eq!(Eal::init(&["again".into()]).err(), Some(Error::AlreadyInitialised));
    assert!(rte::tsc_hz() > 100_000_000);
    let pool = pool("alive", 15);
    assert_eq!(eal.cleanup(), Err(Error::StillInUse { live: 1 }));
    drop(pool.alloc().expect("EAL still runs"));
    drop(pool);
    assert_eq!(eal.cleanup(), Ok(()));
    assert_eq!(eal.cleanup(), Err(Error::NotInitialised));
    assert_eq!(Mempool::create("late", 15, 0, 2176, -1).expect_err("no EAL any more"), Error::NotInitialised);
    assert_eq!(rte::port::probe("net_null0").err(), Some(Error::NotInitialised));
}
