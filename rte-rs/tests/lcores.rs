//! Lcores: launch, panic, join, and use again.

mod common;

use common::{eal, pool};
use rte::{Burst, Mempool, lcore_id};

#[test]
fn an_lcore_runs_panics_and_runs_again() {
    let eal = eal("0@0,3@0", &[]);
    assert_eq!(eal.main_lcore(), 0);
    assert_eq!(eal.lcore_cpuset(0), [0]);
    assert_eq!(lcore_id(), None, "a test's thread is no lcore");
    let mut workers = eal.worker_lcores();
    assert_eq!(workers.len(), 1);
    assert!(eal.worker_lcores().is_empty(), "handed out once");
    let lcore = workers.remove(0);
    assert_eq!((lcore.id(), lcore.cpuset()), (3, vec![0]));

    let (lcore, result) = lcore.launch(|| (lcore_id(), 6 * 7)).join();
    assert_eq!(result, Ok((Some(3), 42)));
    let (lcore, result) = lcore.launch(|| -> u32 { panic!("on purpose, {}", 1) }).join();
    let panicked = result.expect_err("it panics");
    assert_eq!(panicked.to_string(), "the function on lcore 3 panicked: on purpose, 1");

    // An lcore has a cache in each pool, which counts as available.
    let pool = pool("lcore", 255);
    let worker_pool = pool.clone();
    let running = lcore.launch(move || {
        let mut burst = Burst::<32>::new();
        assert!(worker_pool.alloc_bulk(&mut burst, 20));
        burst
    });
    assert_eq!(running.id(), 3);
    let (lcore, burst) = running.join();
    assert_eq!(burst.as_ref().map(|burst| burst.len()), Ok(20));
    assert_eq!(pool.in_use(), 20);
    drop(burst);
    assert_eq!(pool.in_use(), 0);

    // The lcore may be in the middle of filling its cache, for all that others can see.
    let cached = pool.alloc().expect("an mbuf");
    let (put, is_put) = std::sync::mpsc::channel::<()>();
    let (send, wait) = std::sync::mpsc::channel::<()>();
    let running = lcore.launch(move || {
        drop(cached);
        put.send(()).expect("somebody waits for it");
        wait.recv().is_err()
    });
    is_put.recv().expect("the lcore runs");
    assert_eq!(pool.in_use(), 0);
    drop(pool);
    let again =
        || Mempool::create("lcore", 255, 32, rte::mempool::DEFAULT_DATA_ROOM, rte::mempool::ANY_SOCKET);
    assert!(again().is_err(), "the pool is there as long as the lcore runs");
    drop(send);
    let (lcore, result) = running.join();
    assert_eq!(result, Ok(true));
    let pool = again().expect("the pool is freed when the lcore is idle");
    assert_eq!(rte::mempool::leaked(), 0);

    let (send, wait) = std::sync::mpsc::channel::<()>();
    let running = lcore.launch(move || wait.recv().is_err());
    assert!(!running.is_finished());
    assert_eq!(eal.cleanup(), Err(rte::Error::StillInUse { live: 2 }), "the pool and the lcore");
    drop((send, pool));
    let (_lcore, result) = running.join();
    assert_eq!(result, Ok(true));
}
