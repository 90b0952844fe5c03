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
        (Some(1), "", "vxctl: expected a command; see vxctl help\n")
    );
}

/// Help for each command, asked for in each way; a full disk is noticed.
#[test]
fn each_command_has_help() {
    let (_, overview, _) = vxctl(&["help"]);
    assert_eq!(vxctl(&["--help"]).1, overview);
    for command in ["add-br", "dump-flows", "neigh", "find", "capture", "trace", "document"] {
        let (status, out, err) = vxctl(&["help", command]);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{command}");
        assert!(out.contains("Usage: vxctl"), "{out}");
        assert_eq!(vxctl(&[command, "--help"]).1, out);
        assert_eq!(vxctl(&[command, "-h"]).1, out);
    }
    let (status, out, err) = vxctl(&["help", "fly"]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("there is no command 'fly'"), "{err}");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output =
        Command::new(env!("CARGO_BIN_EXE_vxctl")).arg("help").stdout(full).output().expect("vxctl runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stdout: No space left on device"));
}

#[test]
fn man_pages_and_completions_know_the_commands() {
    let directory = tempfile::tempdir().expect("a directory");
    let (status, _, err) = vxctl(&["man", &directory.path().display().to_string()]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect(name);
    assert!(page("vxctl.1").contains("add\\-flow"), "{}", page("vxctl.1"));
    assert!(page("vxctl-add-port.1").contains("may\\-exist"), "{}", page("vxctl-add-port.1"));
    let (status, out, _) = vxctl(&["completion", "bash"]);
    assert_eq!(status, Some(0));
    assert!(out.contains("dump-flows") && out.contains("--no-stats"), "{out}");
    let (status, _, err) = vxctl(&["completion", "tcsh"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("expected bash"), "{err}");
}
