//! A panic in any thread ends the process, with a message and a status that is not 0. The daemon runs in a process of
//! this test's own program, where the test can act on its threads.

use std::process::{Command, ExitCode, Output, Termination};
use std::time::{Duration, Instant};
use vxswitch::control::daemon::main_with;
use vxswitch::control::threads::Moment;

const WHO: &str = "VXSWITCH_TEST_PANIC";

fn panics(who: &str) -> bool {
    std::env::var(WHO).is_ok_and(|name| name == who)
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is that of a probe")]
fn probe(moment: Moment<'_>) {
    match moment {
        Moment::Worker(lcore) => assert!(!panics("worker"), "as the test wants, on lcore {lcore}"),
        Moment::Ready(app) => {
            assert!(!panics("control"), "as the test wants, in control");
            let app = std::sync::Arc::clone(app);
            if panics("slow-path") {
                std::thread::spawn(move || app.handle.call_blocking(|_| panic!("as the test wants")));
            } else if panics("metrics") {
                std::thread::Builder::new()
                    .name("metrics-2".into())
                    .spawn(|| panic!("as the test wants"))
                    .unwrap();
            }
        }
    }
}

/// Not a test of its own: the daemon, when this program was started by one of the tests below.
#[test]
fn daemon() -> ExitCode {
    if std::env::var_os(WHO).is_none() {
        return ExitCode::SUCCESS;
    }
    let line = std::env::var("VXSWITCH_TEST_LINE").unwrap();
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let code = main_with(&args, probe);
    // Past the harness, which has statuses of its own.
    std::process::exit(i32::from(code.report() != ExitCode::SUCCESS))
}

fn run(who: &str, eal: &str) -> (Output, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let line = format!(
        "vxswitch {eal} --no-huge --no-shconf --no-pci --no-telemetry -m 256 -- --total-num-mbufs 8191 \
         --metrics 127.0.0.1:0 --control {}",
        socket.display()
    );
    let start = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon", "--nocapture", "--test-threads=1"])
        .env(WHO, who)
        .env("VXSWITCH_TEST_LINE", line)
        .output()
        .unwrap();
    assert!(!socket.exists(), "the socket's file goes with the daemon");
    (output, start.elapsed())
}

#[test]
fn a_panic_in_any_thread_ends_the_process() {
    for (who, eal) in [
        ("worker", "-l 0"),
        ("worker", "--lcores 0@0,1@0"),
        ("slow-path", "-l 0"),
        ("slow-path", "--lcores 0@0,1@0"),
        ("control", "-l 0"),
        ("control", "--lcores 0@0,1@0"),
        ("metrics", "-l 0"),
    ] {
        let (output, took) = run(who, eal);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{who} {eal}: {text}");
        assert!(text.contains("as the test wants"), "{who} {eal}: {text}");
        assert!(text.contains("panicked: stopping"), "{who} {eal}: {text}");
        // Its own end, or the forced one after 8 s.
        assert!(took < Duration::from_secs(20), "{who} {eal}: {took:?}");
    }
}
