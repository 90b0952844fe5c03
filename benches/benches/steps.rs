//! Single steps of the datapath: `cargo bench -p vxswitch-benches`. Nanoseconds by criterion, then instructions a
//! packet by callgrind, where that is installed.

use criterion::{Criterion, Throughput};
use std::path::Path;
use vxswitch_benches::{callgrind, steps};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for mut step in steps::all() {
        let mut group = criterion.benchmark_group("steps");
        group.throughput(Throughput::Elements(step.packets as u64));
        group.bench_function(step.name, |b| b.iter(&mut step.run));
        group.finish();
    }
    criterion.final_summary();
    // `cargo test --benches` runs this too, to see that it works: without counting.
    if std::env::args().any(|arg| arg == "--bench") {
        match callgrind::steps(Path::new(env!("CARGO_BIN_EXE_loop"))) {
            Ok(table) => println!("{table}"),
            Err(error) => println!("instructions were not counted: {error:#}"),
        }
    }
}
