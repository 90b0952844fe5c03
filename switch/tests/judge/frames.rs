//! Frames of the cases, as expressions for scapy: from 02:..:01 to 02:..:02, 10.0.0.1 to 10.0.0.2.

/// Ethernet header.
pub const E: &str = "Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')";

/// An IPv4 packet with these fields (`tos=4, ...`).
pub fn ip4(fields: &str, rest: &str) -> String {
    format!("{E}/{}", bare_ip4(fields, rest))
}

/// The same without Ethernet header.
pub fn bare_ip4(fields: &str, rest: &str) -> String {
    format!("IP(**dict(dict(src='10.0.0.1',dst='10.0.0.2',id=7),{fields}))/{rest}")
}

/// An IPv6 packet with these fields.
pub fn ip6(fields: &str, rest: &str) -> String {
    format!("{E}/{}", bare_ip6(fields, rest))
}

/// The same without Ethernet header.
pub fn bare_ip6(fields: &str, rest: &str) -> String {
    format!("IPv6(**dict(dict(src='fd00::1',dst='fd00::2'),{fields}))/{rest}")
}

/// TCP in IPv4, ports 1000 to 80, unless the fields say otherwise.
pub fn tcp(fields: &str) -> String {
    ip4("", &tcp_header(fields))
}

/// UDP in IPv4, ports 1000 to 53.
pub fn udp(fields: &str) -> String {
    ip4("", &udp_header(fields))
}

/// TCP in IPv6.
pub fn tcp6(fields: &str) -> String {
    ip6("", &tcp_header(fields))
}

/// UDP in IPv6.
pub fn udp6(fields: &str) -> String {
    ip6("", &udp_header(fields))
}

/// SCTP in IPv4.
pub fn sctp(fields: &str) -> String {
    ip4("", &format!("SCTP(**dict(dict(sport=1000,dport=80),{fields}))/SCTPChunkData(data=b'some')"))
}

/// ICMP in IPv4: an echo request, unless the fields say otherwise.
pub fn icmp(fields: &str) -> String {
    ip4("", &format!("ICMP({fields})/Raw(b'some payload')"))
}

/// ICMPv6 echo request.
pub fn icmp6() -> String {
    ip6("", "ICMPv6EchoRequest(id=1,seq=2,data=b'some payload')")
}

/// A neighbour solicitation with the given options, such as `/ICMPv6NDOptSrcLLAddr(lladdr='..')`.
pub fn nd_ns(fields: &str, options: &str) -> String {
    ip6("hlim=255", &format!("ICMPv6ND_NS({fields}){options}"))
}

/// A neighbour advertisement.
pub fn nd_na(fields: &str, options: &str) -> String {
    ip6("hlim=255", &format!("ICMPv6ND_NA({fields}){options}"))
}

/// ARP with these fields: a request of 10.0.0.1 for 10.0.0.2.
pub fn arp(fields: &str) -> String {
    format!(
        "{E}/ARP(**dict(dict(op=1,psrc='10.0.0.1',pdst='10.0.0.2',hwsrc='02:00:00:00:00:01',hwdst='00:00:00:00:00:00'),{fields}))"
    )
}

/// A TCP header with a payload of odd size.
pub fn tcp_header(fields: &str) -> String {
    format!("TCP(**dict(dict(sport=1000,dport=80,flags='S',seq=5),{fields}))/Raw(b'odd')")
}

/// A UDP header with a payload.
pub fn udp_header(fields: &str) -> String {
    format!("UDP(**dict(dict(sport=1000,dport=53),{fields}))/Raw(b'some payload')")
}

/// The frame with tags: `tags("Dot1Q(vlan=10)/", frame)`.
pub fn tagged(tags: &str, frame: &str) -> String {
    let (ethernet, rest) = frame.split_once(")/").expect("a frame of ours");
    format!("{ethernet})/{tags}/{rest}")
}

/// A frame between other addresses, given by their last bytes.
pub fn between(src: u8, dst: u8, frame: &str) -> String {
    let rest = frame.strip_prefix(E).expect("a frame of ours");
    let mac = |last: u8| {
        if last == 255 { "ff:ff:ff:ff:ff:ff".to_owned() } else { format!("02:00:00:00:00:{last:02x}") }
    };
    format!("Ether(src='{}',dst='{}'){rest}", mac(src), mac(dst))
}

/// What an action may meet: each protocol once, tagged and not, fragments, odd sizes, checksums that are wrong.
pub fn variety() -> Vec<String> {
    let mut all = ipv4_variety();
    all.extend(ipv6_variety());
    all.extend([
        arp(""),
        arp("op=2,hwdst='02:00:00:00:00:02'"),
        format!("{E}/h('{}')", "55".repeat(60)),
        tagged("Dot1Q(vlan=10,prio=3)", &tcp("")),
        tagged("Dot1Q(vlan=10)", &tcp6("")),
        tagged("Dot1AD(vlan=20,prio=1)/Dot1Q(vlan=10)", &udp("")),
    ]);
    all
}

/// What has a type and a code where others have ports.
pub fn is_icmp(frame: &str) -> bool {
    frame.contains("ICMP")
}

/// IPv4 packets of all kinds.
pub fn ipv4_variety() -> Vec<String> {
    vec![
        tcp(""),
        tcp("flags='SA',sport=4,options=[('MSS',1400)]"),
        udp(""),
        udp("chksum=0"),
        sctp(""),
        icmp(""),
        // Wrong checksums stay wrong in the same way.
        tcp("chksum=0x1234"),
        udp("chksum=0x1234"),
        ip4("tos=0xb9,ttl=7", &udp_header("")),
        ip4("options=[IPOption_NOP()]*4", &tcp_header("")),
        ip4("flags='MF'", &udp_header("")),
        ip4("frag=10,proto=47", "Raw(b'the rest of it')"),
        ip4("proto=47", "Raw(b'no ports')"),
        ip4("flags='DF'", "UDP(sport=9,dport=9)/h('aabbccdd01')"),
    ]
}

/// IPv6 packets of all kinds.
pub fn ipv6_variety() -> Vec<String> {
    vec![
        tcp6(""),
        udp6(""),
        udp6("chksum=0x4321"),
        icmp6(),
        ip6("tc=0xb9,hlim=7,fl=0x12345", &tcp_header("")),
        ip6("", &format!("IPv6ExtHdrHopByHop()/{}", udp_header(""))),
        ip6("", "IPv6ExtHdrFragment(offset=0,m=1,id=9,nh=17)/h('03e80035001c0000aaaaaaaaaaaaaaaa')"),
        ip6("", "IPv6ExtHdrFragment(offset=10,m=0,id=9,nh=17)/h('aaaaaaaaaaaaaaaa')"),
        nd_ns("tgt='fd00::9'", "/ICMPv6NDOptSrcLLAddr(lladdr='02:00:00:00:00:01')"),
        nd_na("tgt='fd00::9',S=1", "/ICMPv6NDOptDstLLAddr(lladdr='02:00:00:00:00:01')"),
    ]
}
