//! Debian's unmodified `ovs-ofctl` against a bridge in memory: each command with each version of the protocol.

mod memory;

use flow::ofp::{
    FlowSpec, PortMap, format_flow, format_group, format_meter, parse_flow, parse_group, parse_meter,
};
use memory::{Memory, ports};
use openflow::Version;
use openflow::server::{Connection, Output};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A connection, and where its bytes go.
type Peer = Arc<Mutex<(Connection, UnixStream)>>;

/// A bridge on a socket.
struct Served {
    bridge: Arc<Mutex<Memory>>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// Serves a connection, and tells all of what it did.
fn serve(mut stream: UnixStream, me: &Peer, bridge: &Mutex<Memory>, peers: &Mutex<Vec<Peer>>) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..read]);
        let mut bridge = bridge.lock().unwrap();
        let mut output = me.lock().unwrap().0.input(&mut bytes, &mut *bridge);
        while output.unfinished {
            let parts = output.reply.take().into_iter().flatten().flat_map(Result::unwrap);
            output.bytes.extend(parts);
            let next = me.lock().unwrap().0.input(&mut bytes, &mut *bridge);
            output = Output { bytes: [output.bytes, next.bytes].concat(), ..next };
        }
        output.bytes.extend(output.reply.take().into_iter().flatten().flat_map(Result::unwrap));
        let events = std::mem::take(&mut bridge.events);
        drop(bridge);
        if stream.write_all(&output.bytes).is_err() || output.close.is_some() {
            return;
        }
        for peer in peers.lock().unwrap().iter() {
            let (connection, stream) = &mut *peer.lock().unwrap();
            for event in &events {
                // One that has gone hears nothing.
                let _ = stream.write_all(&connection.event(event));
            }
        }
    }
}

impl Served {
    fn new() -> Served {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("br0.mgmt");
        let listener = UnixListener::bind(&path).unwrap();
        let bridge = Arc::<Mutex<Memory>>::default();
        let shared = Arc::clone(&bridge);
        std::thread::spawn(move || {
            let peers = Arc::<Mutex<Vec<Peer>>>::default();
            for (id, mut stream) in (0..).zip(listener.incoming().flatten()) {
                let connection = Connection::new(id, &Version::all(), false);
                stream.write_all(&connection.greeting()).unwrap();
                let me = Arc::new(Mutex::new((connection, stream.try_clone().unwrap())));
                peers.lock().unwrap().push(Arc::clone(&me));
                let (bridge, peers) = (Arc::clone(&shared), Arc::clone(&peers));
                std::thread::spawn(move || serve(stream, &me, &bridge, &peers));
            }
        });
        Served { bridge, path, _dir: dir }
    }

    /// Runs `ovs-ofctl [-O VERSION] COMMAND unix:PATH ARGS`; whether it succeeded, and what it said.
    fn run(&self, version: &str, args: &[&str], stdin: &str) -> (bool, String) {
        let mut command = Command::new("ovs-ofctl");
        command.args(["--timeout=20", "--no-names", "-O", version]);
        let target = format!("unix:{}", self.path.display());
        command.args(args.iter().map(|arg| if *arg == "BR" { target.as_str() } else { *arg }));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ovs-ofctl of openvswitch-common");
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    fn ok(&self, version: &str, args: &[&str]) -> String {
        let (success, text) = self.run(version, args, "");
        assert!(success, "{version} {args:?}: {text}");
        text
    }
}

const VERSIONS: [&str; 4] = ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

fn names() -> PortMap {
    ports().iter().map(|(number, name)| ((*name).to_owned(), *number)).collect()
}

/// Flows that every version can say.
const FLOWS: &[&str] = &[
    "actions=drop",
    "priority=10,in_port=1,actions=output:2",
    "table=3,cookie=0x1234,idle_timeout=5,hard_timeout=60,tcp,nw_src=10.0.0.0/8,tp_dst=80,actions=output:1,output:2",
    "priority=7,tcp,tp_src=0x1000/0xf000,actions=NORMAL",
    "udp,nw_dst=192.168.0.0/255.255.0.255,actions=IN_PORT",
    "send_flow_rem,ip,nw_tos=32,nw_ecn=1,nw_ttl=63,actions=LOCAL",
    "ip,nw_frag=later,actions=FLOOD",
    "arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_sha=02:00:00:00:00:01,actions=ALL",
    "icmp,icmp_type=8,icmp_code=0,actions=CONTROLLER:128",
    "ipv6,ipv6_src=2001:db8::/32,ipv6_label=0x12345,actions=drop",
    "icmp6,icmp_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:02,actions=drop",
    "icmp6,icmp_type=136,nd_tll=02:00:00:00:00:02,actions=drop",
    "sctp6,tp_dst=5,actions=drop",
    "tcp,tcp_flags=+syn-ack,actions=drop",
    "dl_vlan=10,actions=strip_vlan,output:2",
    "dl_vlan=10,dl_vlan_pcp=3,actions=drop",
    "vlan_tci=0x0000/0x1fff,actions=drop",
    "vlan_tci=0x1000/0x1000,actions=drop",
    "dl_src=02:00:00:00:00:01,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=drop",
    "dl_type=0x88cc,actions=drop",
    "tun_id=0x64,tun_src=10.0.0.2,tun_dst=10.0.0.1,actions=drop",
    "tun_id=0x60/0xf0,tun_ipv6_src=2001:db8::1,actions=drop",
    "tun_gbp_id=7,tun_gbp_flags=0x40,actions=drop",
    "reg0=5,reg1=0x10/0xf0,metadata=0x7,reg7=1,actions=drop",
    "actions=load:0x5->NXM_NX_REG0[0..15],load:0x1->NXM_NX_REG1[3],output:2",
    "actions=move:NXM_NX_REG0[0..7]->NXM_NX_REG1[8..15],output:NXM_NX_REG1[0..15]",
    "actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],output:2",
    "table=1,actions=resubmit(,2),resubmit(1,3),resubmit:2",
    "actions=clone(load:0x1->NXM_NX_REG3[],output:2),output:1",
    "ip,actions=dec_ttl,output:2",
    "ip,actions=push:NXM_NX_REG2[0..5],push:NXM_OF_IP_SRC[],pop:NXM_OF_IP_DST[],pop:NXM_NX_REG3[8..13]",
    "actions=note:01.02.03.04.05.06,note:01.02.03.04.05.06.07.08.09.0a.0b.0c.0d.0e,output:2",
    "actions=bundle(eth_src,7,hrw,ofport,members:1,2,3)",
    "actions=bundle_load(symmetric_l4,0,active_backup,ofport,NXM_NX_REG0[0..15],members:4,5),output:2",
    "tcp,nw_src=10.0.0.1,actions=conjunction(1234,1/2),conjunction(7,3/64)",
    "conj_id=1234,tcp,actions=output:2",
    "actions=check_pkt_larger(1500)->NXM_NX_REG0[7],resubmit(,3)",
    "tcp,actions=fin_timeout(idle_timeout=5,hard_timeout=9),output:2",
    "actions=learn(table=1,hard_timeout=60,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)",
    "tcp,actions=learn(table=3,idle_timeout=5,priority=7,cookie=0x9,send_flow_rem,delete_learned,fin_idle_timeout=1,fin_hard_timeout=2,\
     eth_type=0x800,nw_proto=6,NXM_OF_IP_SRC[]=NXM_OF_IP_DST[],NXM_OF_TCP_SRC[]=NXM_OF_TCP_DST[],NXM_NX_REG0[4..9]=0x5,\
     load:0x1->NXM_NX_REG1[3],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15])",
    "ipv6,actions=learn(table=1,limit=10,result_dst=NXM_NX_REG0[3],eth_type=0x86dd,NXM_NX_IPV6_DST[]=NXM_NX_IPV6_SRC[],output:NXM_NX_REG2[0..15])",
    "in_port=3,actions=output(port=1,max_len=100),output(port=LOCAL,max_len=14)",
    "actions=multipath(symmetric_l3l4+udp,50,hrw,12,7,NXM_NX_REG0[0..3]),output:2",
];

/// Flows that versions since 1.3 can say.
const FLOWS13: &[&str] = &[
    "ip,actions=goto_table:5",
    "actions=write_metadata:0x7/0xff,goto_table:1",
    "actions=meter:1,output:2",
    "ip,actions=output:1,clear_actions,write_actions(dec_ttl,output:2),write_metadata:0x1,goto_table:9",
    "actions=clear_actions",
    "actions=write_actions(group:1)",
    "actions=group:1",
    "actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2",
    "tcp,actions=set_field:10.0.0.9->ip_dst,set_field:8080->tcp_dst,output:2",
    "ipv6,actions=set_field:2001:db8::9->ipv6_dst,output:2",
    "actions=set_field:0x64->tun_id,set_field:02:00:00:00:00:09->eth_dst,output:3",
];

/// Flows whose actions OpenFlow 1.0 has of its own.
const FLOWS10: &[&str] = &[
    "actions=set_tunnel:0x64,output:3",
    "actions=mod_vlan_vid:10,mod_vlan_pcp:3,output:2",
    "ip,actions=mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02,mod_nw_src:10.0.0.1,mod_nw_dst:10.0.0.2,output:2",
    "tcp,actions=mod_nw_tos:32,mod_tp_src:5,mod_tp_dst:6,output:2",
    "actions=write_metadata:0x7",
    "vlan_tci=0x0000,actions=drop",
];

#[test]
fn flows_arrive_as_the_rule_language_reads_them() {
    let served = Served::new();
    for version in VERSIONS {
        let more = if version == "OpenFlow10" { FLOWS10 } else { FLOWS13 };
        for text in FLOWS.iter().chain(more) {
            served.bridge.lock().unwrap().flows.clear();
            served.ok(version, &["add-flow", "BR", text]);
            let arrived = served.bridge.lock().unwrap().flows.clone();
            // OpenFlow 1.5 has no load: it comes as set_field.
            let ours = parse_flow(text, &names()).unwrap();
            assert_eq!(arrived.len(), 1, "{version} {text}");
            if version == "OpenFlow15" {
                assert_eq!((arrived[0].table, arrived[0].matches), (ours.table, ours.matches), "{text}");
            } else {
                let (a, b) = (format_flow(&arrived[0], None, &()), format_flow(&ours, None, &()));
                assert_eq!(a, b, "{version} {text}");
                assert_eq!(arrived[0], ours, "{version} {text}");
            }
            // And back: what ovs-ofctl prints, read by us, is the same flow.
            let dump = served.ok(version, &["dump-flows", "--no-stats", "BR"]);
            let line = dump.lines().last().unwrap();
            let back = parse_flow(line, &names()).unwrap_or_else(|e| panic!("{version} {line}: {e}"));
            assert_eq!(back.matches, arrived[0].matches, "{version} {text}: {line}");
            // OpenFlow 1.0 has no instructions: what is written to metadata is loaded.
            let is_loaded = version == "OpenFlow10" && text.contains("write_metadata");
            if version != "OpenFlow15" && !is_loaded {
                // Dumps of OpenFlow 1.0 have no flags.
                let back = FlowSpec { send_flow_rem: arrived[0].send_flow_rem, ..back };
                assert_eq!(
                    format_flow(&back, None, &()),
                    format_flow(&arrived[0], None, &()),
                    "{version} {text}: {line}"
                );
            }
            served.ok(
                version,
                &[
                    "--strict",
                    "del-flows",
                    "BR",
                    text.split("actions=")
                        .next()
                        .unwrap()
                        .replace("send_flow_rem,", "")
                        .replace("idle_timeout=5,hard_timeout=60,", "")
                        .replace("cookie=0x1234,", "")
                        .trim_end_matches(','),
                ],
            );
            assert!(served.bridge.lock().unwrap().flows.is_empty(), "{version} {text} is not deleted");
        }
    }
}

#[test]
fn dumps_show_statistics() {
    let served = Served::new();
    for version in VERSIONS {
        served.ok(version, &["del-flows", "BR"]);
        served
            .ok(version, &["add-flow", "BR", "table=1,cookie=0x9,priority=5,tcp,tp_dst=80,actions=output:2"]);
        let text = served.ok(version, &["dump-flows", "BR"]);
        let expected = "cookie=0x9, duration=2.250s, table=1, n_packets=3, n_bytes=180,";
        assert!(text.contains(expected), "{version}: {text}");
        assert!(text.contains("priority=5,tcp,tp_dst=80 actions=output:2"), "{version}: {text}");
        let text = served.ok(version, &["dump-flows", "BR", "table=1,tcp,out_port=2,cookie=0x9/-1"]);
        assert!(text.contains("cookie=0x9"), "{version}: {text}");
        let text = served.ok(version, &["dump-flows", "BR", "table=1,out_port=3"]);
        assert!(!text.contains("cookie=0x9"), "{version}: {text}");
        let text = served.ok(version, &["dump-aggregate", "BR", "tcp"]);
        assert!(text.contains("packet_count=3 byte_count=180 flow_count=1"), "{version}: {text}");
        let text = served.ok(version, &["dump-tables", "BR"]);
        assert!(text.contains("active=1"), "{version}: {text}");
    }
}

#[test]
fn modifications_and_replacements() {
    let served = Served::new();
    for version in VERSIONS {
        served.ok(version, &["del-flows", "BR"]);
        served.ok(version, &["add-flow", "BR", "cookie=1,tcp,actions=1"]);
        served.ok(version, &["add-flow", "BR", "cookie=2,udp,actions=1"]);
        served.ok(version, &["mod-flows", "BR", "ip,actions=2"]);
        let flows = served.bridge.lock().unwrap().flows.clone();
        assert!(flows.iter().all(|f| format_flow(f, None, &()).ends_with("output:2")), "{version} {flows:?}");
        // In OpenFlow 1.0 a modification gives a cookie, 0 if it says none.
        served.ok(version, &["add-flow", "BR", "cookie=1,tcp,actions=1"]);
        served.ok(version, &["mod-flows", "BR", "cookie=1/-1,actions=3"]);
        let text = served.ok(version, &["dump-flows", "BR", "tcp"]);
        assert!(text.contains("actions=output:3"), "{version}: {text}");
        served.ok(version, &["mod-flows", "--strict", "BR", "arp,actions=3"]);
        // OpenFlow 1.0 adds what it does not find.
        let expected = if version == "OpenFlow10" { 3 } else { 2 };
        assert_eq!(served.bridge.lock().unwrap().flows.len(), expected, "{version}");
        let (success, text) =
            served.run(version, &["replace-flows", "BR", "-"], "tcp,actions=2\narp,actions=3\n");
        assert!(success, "{version}: {text}");
        let text = served.ok(version, &["dump-flows", "--no-stats", "BR"]);
        assert_eq!(text.matches("actions=").count(), 2, "{version}: {text}");
        if version != "OpenFlow10" {
            let (success, text) =
                served.run(version, &["--bundle", "replace-flows", "BR", "-"], "udp,actions=1\n");
            assert!(success, "{version}: {text}");
            assert_eq!(served.bridge.lock().unwrap().flows.len(), 1, "{version}");
            let (success, text) = served.run(
                version,
                &["--bundle", "add-flows", "BR", "-"],
                "add tcp,actions=1\nmodify ip,actions=2\ndelete udp\n",
            );
            assert!(success, "{version}: {text}");
            let text = served.ok(version, &["dump-flows", "--no-stats", "BR"]);
            assert!(text.contains("tcp actions=output:2") && !text.contains("udp"), "{version}: {text}");
        }
    }
}

#[test]
fn ports_and_the_switch() {
    let served = Served::new();
    for version in VERSIONS {
        let text = served.ok(version, &["show", "BR"]);
        assert!(text.contains("dpid:0000020000000a01") && text.contains("n_tables:254"), "{version}: {text}");
        assert!(text.contains("LOCAL(br0): addr:02:00:00:00:00:fe"), "{version}: {text}");
        assert_eq!(text.contains("BUNDLES"), version >= "OpenFlow14", "{text}");
        assert_eq!(text.contains("GROUP_STATS"), version != "OpenFlow10", "{text}");
        assert_eq!(text.contains("ARP_MATCH_IP"), version == "OpenFlow10", "{text}");
        assert!(text.contains("speed: 10000 Mbps now"), "{version}: {text}");
        let text = served.ok(version, &["dump-desc", "BR"]);
        assert!(text.contains("Manufacturer: vxswitch"), "{version}: {text}");
        let text = served.ok(version, &["dump-ports", "BR"]);
        assert!(text.contains("4 ports") && text.contains("rx pkts=7"), "{version}: {text}");
        if version != "OpenFlow10" {
            assert!(text.contains("duration=1.500s"), "{version}: {text}");
        }
        let text = served.ok(version, &["dump-ports", "BR", "2"]);
        assert!(text.contains("1 ports"), "{version}: {text}");
        let text = served.ok(version, &["dump-ports-desc", "BR"]);
        assert!(text.contains("3(vx1)"), "{version}: {text}");
        served.ok(version, &["mod-port", "BR", "p0", "down"]);
        assert!(served.ok(version, &["show", "BR"]).contains("config:     PORT_DOWN"), "{version}");
        served.ok(version, &["mod-port", "BR", "p0", "up"]);
        served.ok(version, &["get-frags", "BR"]);
        served.ok(version, &["probe", "BR"]);
        served.ok(version, &["ping", "BR", "32"]);
        let (_, text) = served.run(version, &["queue-stats", "BR"], "");
        assert!(text.contains("0 queues"), "{version}: {text}");
        served.ok(version, &["dump-tlv-map", "BR"]);
        if version != "OpenFlow10" {
            let text = served.ok(version, &["dump-table-features", "BR"]);
            // What is missing of Open vSwitch's: connection tracking, MPLS, NSH, ERSPAN and GTP-U.
            let set = "Set-Field: tun_{id,src,dst,ipv6_{src,dst},gbp_{id,flags},metadata0...metadata63} metadata in_{port,port_oxm} \
                       pkt_mark reg0...reg15 xreg0...xreg7 xxreg0...xxreg3 eth_{src,dst} vlan_{tci,vid,pcp} ip_{src,dst} \
                       ipv6_{src,dst,label} nw_tos ip_dscp nw_{ecn,ttl} arp_{op,spa,tpa,sha,tha} tcp_{src,dst} udp_{src,dst} \
                       sctp_{src,dst} icmp_{type,code} icmpv6_{type,code} nd_{target,sll,tll}\n";
            let masked = "arbitrary mask: tun_{id,src,dst,ipv6_{src,dst},flags,gbp_{id,flags},metadata0...metadata63} metadata \
                          pkt_mark reg0...reg15 xreg0...xreg7 xxreg0...xxreg3 eth_{src,dst} vlan_{tci,vid} ip_{src,dst} \
                          ipv6_{src,dst,label} ip_frag arp_{spa,tpa,sha,tha} tcp_{src,dst,flags} udp_{src,dst} sctp_{src,dst} \
                          nd_{target,sll,tll}\n";
            let exact = "wildcard: packet_type conj_id in_{port,port_oxm} eth_type vlan_pcp nw_{proto,tos} ip_dscp nw_{ecn,ttl} \
                         arp_op icmp_{type,code} icmpv6_{type,code}\n";
            for fields in [set, masked, exact] {
                assert!(text.contains(fields), "{version}: expected {fields} in {text}");
            }
        }
        if version >= "OpenFlow14" {
            served.ok(version, &["dump-table-desc", "BR"]);
        }
    }
}

#[test]
fn groups_and_meters() {
    let served = Served::new();
    let groups = [
        "group_id=1,type=all,bucket=bucket_id:0,actions=output:1,bucket=bucket_id:1,actions=output:2",
        "group_id=2,type=select,bucket=bucket_id:0,weight:10,actions=output:1,bucket=bucket_id:1,weight:20,actions=output:2",
        "group_id=3,type=indirect,bucket=bucket_id:0,actions=load:0x5->NXM_NX_REG0[],output:1",
        "group_id=4,type=ff,bucket=bucket_id:0,watch_port:1,actions=output:1,bucket=bucket_id:1,watch_group:2,actions=output:2",
    ];
    for version in &VERSIONS[1..] {
        served.ok(version, &["del-groups", "BR"]);
        for text in groups {
            served.ok(version, &["add-group", "BR", text]);
            let arrived = served.bridge.lock().unwrap().groups.last().cloned().unwrap();
            let ours = parse_group(text, &names()).unwrap();
            if *version != "OpenFlow15" {
                assert_eq!(format_group(&arrived, &()), format_group(&ours, &()), "{version}");
            }
            let dump = served.ok(version, &["dump-groups", "BR"]);
            let line = dump.lines().last().unwrap();
            assert_eq!(parse_group(line, &names()).unwrap().buckets.len(), ours.buckets.len(), "{line}");
        }
        served.ok(version, &["mod-group", "BR", "group_id=1,type=all,bucket=actions=output:3"]);
        assert_eq!(served.bridge.lock().unwrap().groups[0].buckets.len(), 1, "{version}");
        let text = served.ok(version, &["dump-group-stats", "BR", "group_id=2"]);
        assert!(text.contains("group_id=2") && text.contains("bucket1:packet_count=1"), "{version}: {text}");
        served.ok(version, &["dump-group-features", "BR"]);
        let (success, text) = served.run(version, &["add-group", "BR", "group_id=1,type=all"], "");
        assert!(!success && text.contains("OFPGMFC_GROUP_EXISTS"), "{version}: {text}");
        served.ok(version, &["del-groups", "BR", "group_id=1"]);
        assert_eq!(served.bridge.lock().unwrap().groups.len(), 3, "{version}");
        if *version == "OpenFlow15" {
            let bucket = "group_id=2,command_bucket_id=last,bucket=bucket_id:7,weight:5,actions=output:3";
            served.ok(version, &["insert-buckets", "BR", bucket]);
            assert_eq!(served.bridge.lock().unwrap().groups[0].buckets.len(), 3);
            served.ok(version, &["remove-buckets", "BR", "group_id=2,command_bucket_id=7"]);
            assert_eq!(served.bridge.lock().unwrap().groups[0].buckets.len(), 2);
        }
        served.ok(version, &["del-meters", "BR"]);
        for text in [
            "meter=1,kbps,bands=type=drop,rate=1000",
            "meter=2,pktps,burst,stats,bands=type=drop,rate=5,burst_size=9",
        ] {
            served.ok(version, &["add-meter", "BR", text]);
            let arrived = *served.bridge.lock().unwrap().meters.last().unwrap();
            let ours =
                parse_meter(&text.replace("drop,", "drop ").replace(",burst_size", " burst_size")).unwrap();
            assert_eq!(format_meter(&arrived), format_meter(&ours), "{version}");
        }
        let text = served.ok(version, &["dump-meters", "BR"]);
        assert!(
            text.contains("meter=2 pktps burst stats") && text.contains("burst_size=9"),
            "{version}: {text}"
        );
        served.ok(version, &["mod-meter", "BR", "meter=1,kbps,bands=type=drop,rate=2000"]);
        let text = served.ok(version, &["meter-stats", "BR", "meter=1"]);
        assert!(text.contains("packet_in_count:9"), "{version}: {text}");
        served.ok(version, &["meter-features", "BR"]);
        served.ok(version, &["del-meter", "BR", "meter=1"]);
        assert_eq!(served.bridge.lock().unwrap().meters.len(), 1, "{version}");
    }
}

#[test]
fn refusals_have_their_names() {
    let served = Served::new();
    for (version, flow, expected) in [
        ("OpenFlow10", "ip,actions=ct(commit)", "OFPBAC_BAD_VENDOR_TYPE"),
        ("OpenFlow13", "ip,actions=ct(commit)", "OFPBAC_BAD_VENDOR_TYPE"),
        ("OpenFlow10", "actions=sample(probability=1)", "OFPBAC_BAD_VENDOR_TYPE"),
        ("OpenFlow13", "ct_state=+trk,actions=drop", "OFPBMC_BAD_FIELD"),
        ("OpenFlow10", "ct_state=+trk,actions=drop", "OFPBMC_BAD_FIELD"),
    ] {
        let (success, text) = served.run(version, &["add-flow", "BR", flow], "");
        assert!(!success && text.contains(expected), "{version} {flow}: {text}");
    }
}

/// `ovs-ofctl monitor`, and what it says, line by line.
struct Monitor {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Monitor {
    fn start(served: &Served, version: &str, args: &[&str]) -> Monitor {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let target = format!("unix:{}", served.path.display());
        // What it says first goes to stdout, what it hears later to stderr.
        let mut command = Command::new("sh");
        command.args(["-c", "exec stdbuf -oL ovs-ofctl --timeout=20 --no-names \"$@\" 2>&1", "sh"]);
        let control = served.path.with_file_name(format!("monitor-{}.ctl", NUMBER.fetch_add(1, Relaxed)));
        command.args(["-O", version, "--unixctl"]).arg(&control).args(["monitor", &target]).args(args);
        command.env("OVS_RUNDIR", served.path.parent().unwrap());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It makes this socket when it has asked for everything. What happens while it waits for answers is lost to it.
        let until = Instant::now() + Duration::from_secs(20);
        while !control.exists() {
            assert!(Instant::now() < until, "ovs-ofctl does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Monitor { child, lines }
    }

    /// Lines until one contains the text.
    fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            seen.push_str(&line);
            seen.push('\n');
            if line.contains(text) {
                return seen;
            }
        }
        panic!("no {text:?} in {seen}");
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn packets_go_out_and_come_back() {
    let served = Served::new();
    let packet = "ffffffffffff0200000000010800450000140000000040110000000000000000000000000000";
    let text = format!("in_port=1,packet={packet},actions=controller");
    for version in VERSIONS {
        for format in ["openflow10", "nxt_packet_in", "nxt_packet_in2"] {
            let standard = format == "openflow10";
            let args: &[&str] = if standard { &["64", "-Popenflow10"] } else { &["64", "-P", format] };
            if standard && version != "OpenFlow10" {
                continue;
            }
            let mut monitor = Monitor::start(&served, version, args);
            served.ok(version, &["packet-out", "BR", &text]);
            let seen = monitor.until("udp");
            assert!(seen.contains("total_len=38 in_port=1 (via action)"), "{version} {format}: {seen}");
            assert_eq!(seen.contains("cookie=0x5"), !standard, "{version} {format}: {seen}");
        }
    }
}

#[test]
fn monitors_hear_of_changes() {
    let served = Served::new();
    for version in VERSIONS {
        served.ok(version, &["del-flows", "BR"]);
        served.ok(version, &["add-flow", "BR", "table=1,tcp,actions=1"]);
        let mut monitor = Monitor::start(&served, version, &["watch:"]);
        let seen = monitor.until("table=1");
        assert!(seen.contains("tcp actions=output:1"), "{version}: {seen}");
        served.ok(version, &["add-flow", "BR", "priority=9,udp,actions=2"]);
        let seen = monitor.until("event=ADDED table=0");
        assert!(seen.contains("udp actions=output:2"), "{version}: {seen}");
        served.ok(version, &["del-flows", "BR", "udp"]);
        let seen = monitor.until("event=DELETED");
        assert!(seen.contains("reason=delete") && seen.contains("udp"), "{version}: {seen}");
    }
}
