//! `vxctl` without a daemon.

use std::process::Command;

fn vxctl(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vxctl")).args(arguments).output().expect("vxctl runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_goes_to_stdout_and_mistakes_to_stderr() {
    let (status, out, err) = vxctl(&["--help"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("vxctl: configures and shows a running vxswitch\n"), "{out}");
    let (status, out, err) = vxctl(&[]);
    assert_eq!(
        (status, out.as_str(), err.as_str()),
        (Some(1), "", "vxctl: expected a command; see vxctl --help\n")
    );
}
