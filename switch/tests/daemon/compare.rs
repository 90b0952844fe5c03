//! Open vSwitch's tools, and a controller that was not written for this switch, by the scripts of `scripts/ovs`, which can
//! be run with more than here.

use std::path::Path;
use std::process::Command;

/// What a script says that cannot run here.
const SKIPPED: i32 = 77;

/// Runs a script of `scripts/ovs`, which needs root.
fn script(name: &str, arguments: &[&str]) {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
        return crate::support::skipped(name, "needs root for network namespaces");
    }
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/ovs").join(name))
        .args(["--vxswitch", env!("CARGO_BIN_EXE_vxswitch")])
        .args(arguments)
        .output()
        .expect("python3");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if output.status.code() == Some(SKIPPED) {
        return crate::support::skipped(name, text.trim());
    }
    assert!(output.status.success(), "scripts/ovs/{name} {arguments:?}: {text}");
}

/// With the commands of `commands.txt`, where each meant difference stands with its reason.
#[test]
fn open_vswitchs_tools_print_the_same_of_its_own_switch_and_of_this_one() {
    script("compare", &[]);
}

/// `VXSWITCH_CHURN`: so many operations.
#[test]
fn a_flow_passes_without_loss_while_everything_else_changes() {
    let operations = std::env::var("VXSWITCH_CHURN").unwrap_or_else(|_| "100".to_owned());
    script("churn", &["--operations", &operations]);
}

#[test]
fn hostile_connections_end_and_nothing_else_notices() {
    script("hostile", &["--connections", "100"]);
}

#[test]
fn simple_switch_13_of_os_ken_learns_and_forwards() {
    script("controller", &[]);
}
