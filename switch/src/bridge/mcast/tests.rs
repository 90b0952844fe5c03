//! Members and routers come, age and go.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(port: u16) -> Location {
    Location { port: PortId(port), remote: None }
}

fn behind(port: u16, remote: &str) -> Location {
    Location { port: PortId(port), remote: Some(ip(remote)) }
}

fn table(size: usize) -> (Mcast, Instant) {
    let mut mcast = Mcast::default();
    mcast.configure(McastSettings { enabled: true, size, ..McastSettings::default() });
    (mcast, Instant::now())
}

fn members(mcast: &Mcast, group: &str) -> Option<Vec<Location>> {
    mcast.members((0, ip(group))).map(Iterator::collect)
}

#[test]
fn members_join_leave_and_age() {
    let (mut mcast, t0) = table(10);
    let (key, after) = ((0, ip("239.1.1.1")), |seconds| t0 + Duration::from_secs(seconds));
    assert_eq!(mcast.join(key, at(1), t0), [McastChange::Group(key)]);
    assert_eq!(mcast.join(key, at(1), after(100)), [], "it is known");
    assert_eq!(mcast.join(key, behind(2, "192.168.1.2"), t0), [McastChange::Group(key)]);
    assert_eq!(mcast.join(key, behind(2, "192.168.1.3"), t0), [McastChange::Group(key)]);
    assert_eq!(members(&mcast, "239.1.1.1").unwrap().len(), 3);
    assert_eq!(mcast.leave(key, behind(2, "192.168.1.2")), [McastChange::Group(key)]);
    assert_eq!(mcast.leave(key, behind(2, "192.168.1.2")), [], "it has left");
    assert!(mcast.expire(after(299)).is_empty());
    assert_eq!(mcast.expire(after(300)), [McastChange::Group(key)]);
    assert_eq!(members(&mcast, "239.1.1.1"), Some(vec![at(1)]), "its report was renewed");
    mcast.expire(after(400));
    assert_eq!(members(&mcast, "239.1.1.1"), None);
    // VLANs are separate.
    mcast.join((5, key.1), at(1), t0);
    assert_eq!(members(&mcast, "239.1.1.1"), None);
    assert_eq!(mcast.forget_port(PortId(1)), [McastChange::Group((5, key.1))]);
}

#[test]
fn groups_of_the_link_have_no_members() {
    let (mut mcast, t0) = table(10);
    for group in ["224.0.0.251", "ff02::1", "10.0.0.1"] {
        assert!(mcast.join((0, ip(group)), at(1), t0).is_empty(), "{group}");
    }
    for group in ["224.0.1.1", "ff02::2", "ff02::1:ff00:1"] {
        assert!(!mcast.join((0, ip(group)), at(1), t0).is_empty(), "{group}");
    }
}

#[test]
fn a_port_that_joins_everything_pays_for_it() {
    let (mut mcast, t0) = table(10);
    let group = |n: u32| (0, IpAddr::from((0xef01_0100 + n).to_be_bytes()));
    for n in 0..5 {
        mcast.join(group(n), at(1), t0);
    }
    for n in 100..1000 {
        mcast.join(group(n), at(2), t0 + Duration::from_millis(n.into()));
    }
    assert!((0..5).all(|n| mcast.members(group(n)).is_some()), "another port's groups are gone");
    assert_eq!(mcast.rows(t0).len(), 10);
    assert!(mcast.members(group(999)).is_some() && mcast.members(group(100)).is_none());
}

#[test]
fn routers_are_those_who_ask() {
    let (mut mcast, t0) = table(10);
    assert_eq!(mcast.router(0, at(3), t0), [McastChange::Routers(0)]);
    assert_eq!(mcast.router(0, at(3), t0 + Duration::from_secs(100)), []);
    assert_eq!(mcast.routers(0).collect::<Vec<_>>(), [at(3)]);
    assert_eq!(mcast.routers(1).count(), 0);
    assert!(mcast.expire(t0 + Duration::from_secs(279)).is_empty());
    assert_eq!(mcast.expire(t0 + Duration::from_secs(280)), [McastChange::Routers(0)]);
    mcast.router(0, at(3), t0);
    mcast.configure(McastSettings::default());
    assert!(mcast.rows(t0).is_empty(), "switched off");
}
