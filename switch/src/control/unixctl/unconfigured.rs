//! What `ovs-vswitchd` answers of features that no bridge and no port has configured, for those that this switch has not:
//! bonds, LACP, CFM, the spanning tree protocols, 802.1Qcf auto attach and QoS.

use super::bond_hash;
use crate::control::app::App;

/// Answers a command whose arguments are as many as it takes; `None` for one that is not of these.
pub(super) async fn run(app: &App, command: &str, words: &[&str]) -> Option<Result<String, String>> {
    let of = |missing: &str, all: &str| {
        Some(if words.is_empty() { Ok(all.to_owned()) } else { Err(missing.to_owned()) })
    };
    match command {
        "bond/list" => Some(Ok("bond\ttype\trecircID\tmembers\n".to_owned())),
        "bond/hash" => Some(bond_hash::run(words)),
        _ if command.starts_with("bond/") => of("no such bond", ""),
        "cfm/set-fault" => {
            let is_fault = matches!(words.last(), Some(&("normal" | "false" | "true")));
            Some(match (is_fault, words.len()) {
                (false, _) => Err("unknown fault string".to_owned()),
                (true, 1) => Ok("OK".to_owned()),
                (true, _) => Err("no such CFM object".to_owned()),
            })
        }
        "cfm/show" => of("no such CFM object", ""),
        "lacp/show" | "lacp/show-stats" => of("no such lacp object", ""),
        "stp/show" => of("no such stp object", ""),
        "stp/tcn" => of("no such stp object", "OK"),
        "rstp/show" => of("No such RSTP object", ""),
        "rstp/tcn" => of("No such RSTP object", "OK"),
        "autoattach/show-isid" | "autoattach/statistics" | "autoattach/status" | "dpif-netdev/bond-show" => {
            Some(Ok(String::new()))
        }
        "qos/show" | "qos/show-types" => {
            let name = words[0];
            if !app.switch.lock().await.ports.contains_key(name) {
                return Some(Err("no such interface".to_owned()));
            }
            Some(Ok(if command == "qos/show" {
                format!("QoS not configured on {name}\n")
            } else {
                format!("No QoS types supported for interface: {name}\n")
            }))
        }
        _ => None,
    }
}
