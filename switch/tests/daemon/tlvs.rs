//! The TLV map of a bridge, as with `ovs-ofctl`.

use crate::running::{BASE, Daemon};

const ONE: &str = "{class=0x102,type=0x80,len=4}->tun_metadata0";
const OTHER: &str = "{class=0xffff,type=0x1,len=16}->tun_metadata63";

#[test]
fn options_get_fields_that_rules_use() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("add-port br0 g0 -- set interface g0 type=geneve options:remote_ip=1.2.3.4 options:key=5");
    let error = daemon.refused("add-flow br0 in_port=g0,tun_metadata0=5,actions=drop");
    assert!(error.contains("add-tlv-map"), "{error}");
    daemon.ctl(&format!("add-tlv-map br0 {ONE},{OTHER}"));
    assert_eq!(daemon.ctl("dump-tlv-map br0").lines().collect::<Vec<_>>(), [ONE, OTHER]);
    daemon.ctl("add-flow br0 in_port=g0,tun_metadata0=0x5/0xf,actions=set_field:7->tun_metadata63,output:g0");
    assert!(daemon.ctl("dump-flows br0").contains("tun_metadata0=0x5/0xf"));
    let trace = daemon.ctl("trace br0 in_port=g0,tun_metadata0=0x15");
    assert!(trace.contains("geneve({class=0x102,type=0x80,len=4,0x5/0xf}"), "{trace}");
    // What a rule names stays.
    let error = daemon.refused(&format!("del-tlv-map br0 {ONE}"));
    assert!(error.contains("add-tlv-map"), "{error}");
    for (bad, why) in [
        (ONE, "tun_metadata0 has an option already"),
        ("{class=0x102,type=0x80,len=4}->tun_metadata1", "this option is tun_metadata0 already"),
        ("{class=1,type=1,len=20}->tun_metadata2", "a multiple of 4 up to 16"),
        ("nothing", "expected {class=CLASS,type=TYPE,len=LEN}->tun_metadataN"),
    ] {
        let error = daemon.refused(&format!("add-tlv-map br0 {bad}"));
        assert!(error.contains(why), "{error}");
    }
    daemon.ctl("del-flows br0 in_port=g0");
    daemon.ctl(&format!("del-tlv-map br0 {OTHER}"));
    assert_eq!(daemon.ctl("dump-tlv-map br0").trim(), ONE);
    daemon.ctl("del-tlv-map br0");
    assert_eq!(daemon.ctl("dump-tlv-map br0").trim(), "");
    daemon.stop();
}
