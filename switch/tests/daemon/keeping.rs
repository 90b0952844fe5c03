//! What it was told is kept: in its file, over a reload, and over a crash.

use crate::running::{BASE, Daemon, EAL, PATIENCE};
use crate::support::{eventually, vxctl};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

const COMMENTED: &str = "# The switch in rack 7.\n\n[[bridge]] # the only one\nname = \"br0\"\n";

#[test]
fn changes_are_in_the_file_when_they_are_acknowledged_and_comments_stay() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kept.toml"), COMMENTED).unwrap();
    let daemon = Daemon::start_kept(dir);
    let file = daemon.dir.path().join("kept.toml");
    let text = || fs::read_to_string(&file).unwrap();
    daemon.ctl("add-port br0 p1 -- set interface p1 type=dpdk options:dpdk-devargs=net_null1,no-rx=1");
    assert!(text().starts_with(COMMENTED) && text().contains("net_null1"), "{}", text());
    daemon.ctl("add-flow br0 priority=7,arp,actions=output:p1");
    assert!(text().contains("priority=7,arp,actions=output:p1"), "{}", text());
    daemon.ctl("fdb add br0 p1 5 02:00:00:00:00:77");
    assert!(text().contains("02:00:00:00:00:77"), "{}", text());
    daemon.ctl("add-br br-phy -- set bridge br-phy address=10.0.0.1/24");
    daemon.ctl("neigh set br-phy 10.0.0.2 02:00:00:00:00:99");
    assert!(text().contains("02:00:00:00:00:99"), "{}", text());
    daemon.ctl("add-meter br0 meter=3,kbps,band=type=drop,rate=1000");
    daemon.ctl("add-group br0 group_id=9,type=all,bucket=output:p1");
    // Everything is there again, and nothing is written that has not changed.
    let told = daemon.ctl("document");
    let before = text();
    let dir = daemon.stop();
    let daemon = Daemon::start_kept(dir);
    assert_eq!(daemon.ctl("document"), told);
    assert_eq!(text(), before);
    let rows = daemon.json("fdb show br0");
    assert_eq!(
        (rows[0]["mac"].as_str(), rows[0]["fixed"].as_bool()),
        (Some("02:00:00:00:00:77"), Some(true))
    );
    assert!(
        daemon.ctl("dump-meters br0").contains("rate=1000")
            && daemon.ctl("dump-groups br0").contains("group_id=9")
    );
    // A document that leaves the seed to be drawn is one for this switch.
    let seedless: String = told.split_inclusive('\n').filter(|line| !line.starts_with("hash-seed")).collect();
    assert_ne!(seedless, told);
    fs::write(daemon.dir.path().join("seedless.toml"), seedless).unwrap();
    daemon.ctl(&format!("apply {}", daemon.dir.path().join("seedless.toml").display()));
    assert_eq!(daemon.ctl("document"), told);
    // And goes when it is told to.
    daemon.ctl("neigh del br-phy 10.0.0.2");
    assert!(daemon.refused("neigh del br-phy 10.0.0.2").contains("no neighbour"));
    daemon.ctl("neigh set br-phy 10.0.0.3 02:00:00:00:00:98");
    daemon.ctl("neigh flush --all");
    daemon.ctl("fdb del br0 5 02:00:00:00:00:77");
    assert!(!text().contains("02:00:00:00:00"), "{}", text());
    assert_eq!(daemon.json("fdb show br0").as_array().unwrap().len(), 0);
    daemon.stop();
}

/// What only looks does not care, and what was told is in the file as soon as it can be.
#[test]
fn a_file_that_cannot_be_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kept.toml"), COMMENTED).unwrap();
    let daemon = Daemon::start_kept(dir);
    // The new file's name is a directory's.
    let blocked = daemon.dir.path().join(".kept.toml.new");
    fs::create_dir(&blocked).unwrap();
    assert!(daemon.refused("add-br br7").contains("not saved"));
    assert!(daemon.ctl("list-br").contains("br7"));
    assert!(daemon.http("/readyz").contains("changes are not saved: "));
    fs::remove_dir(&blocked).unwrap();
    let text = || fs::read_to_string(daemon.dir.path().join("kept.toml")).unwrap();
    eventually("it is saved", PATIENCE, || text().contains("br7").then_some(()));
    eventually("and ready", PATIENCE, || daemon.http("/readyz").contains("200 OK").then_some(()));
    daemon.stop();
}

#[test]
fn a_crash_leaves_what_was_acknowledged() {
    // Built before the time counts.
    vxctl();
    let mut dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kept.toml"), COMMENTED).unwrap();
    let mut told = 0;
    for _ in 0..3 {
        let mut daemon = Daemon::start_kept(dir);
        let before = told;
        let (next, enough) = (AtomicUsize::new(told), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Not longer than anybody waits for it, should the daemon live on.
                let start = Instant::now();
                while start.elapsed() < PATIENCE * 2 {
                    let n = next.load(SeqCst);
                    let done = daemon.try_ctl(&format!("add-flow br0 priority={},actions=drop", 1 + n));
                    if !done.status.success() {
                        return;
                    }
                    next.store(n + 1, SeqCst);
                    if n + 1 >= before + 5 {
                        enough.store(true, SeqCst);
                    }
                }
            });
            eventually("some changes are acknowledged", PATIENCE, || enough.load(SeqCst).then_some(()));
            let pid = daemon.child.id().to_string();
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        });
        daemon.child.wait().unwrap();
        told = next.load(SeqCst);
        let text = fs::read_to_string(daemon.dir.path().join("kept.toml")).unwrap();
        assert!(text.contains("# The switch in rack 7."), "{text}");
        for n in 1..=told {
            assert!(text.contains(&format!("priority={n},actions=drop")), "{n} of {told}: {text}");
        }
        // The last one may have been written and not acknowledged.
        if text.contains(&format!("priority={},actions=drop", told + 1)) {
            told += 1;
        }
        dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    }
}

#[test]
fn the_file_is_read_again_without_touching_what_did_not_change() {
    let daemon = Daemon::start_with(EAL, BASE, &["--log", "json"]);
    let file = daemon.dir.path().join("config.toml");
    daemon.wait_for("p1", "tx_packets", 100);
    fs::write(&file, BASE.replace("size=64\" }", "size=64\" }\ntag = 7") + "[[bridge]]\nname = \"br1\"\n")
        .unwrap();
    let hang_up = || {
        assert!(
            Command::new("kill").args(["-HUP", &daemon.child.id().to_string()]).status().unwrap().success()
        );
    };
    let before = daemon.json("get interface p1 statistics:tx_packets").as_u64().unwrap();
    hang_up();
    eventually("the new bridge", PATIENCE, || daemon.ctl("list-br").contains("br1").then_some(()));
    assert_eq!(daemon.ctl("get port p0 tag"), "7\n");
    assert!(
        daemon.json("get interface p1 statistics:tx_packets").as_u64().unwrap() >= before,
        "not made anew"
    );
    // A bad file changes nothing, and says why.
    fs::write(&file, "[[bridge]]\nname = \"br0\"\ncolour = \"red\"\n").unwrap();
    assert!(daemon.refused("reload").contains("config.toml:3: "));
    hang_up();
    eventually("the refusal is logged", PATIENCE, || {
        daemon.errors().contains("the file was not taken").then_some(())
    });
    assert!(daemon.ctl("list-ports br0").contains("p0"));
    // Saved, it is whole again.
    assert!(daemon.ctl("save").contains("config.toml"));
    daemon.ctl("reload");
    assert_eq!(daemon.ctl("list-br"), "br0\nbr1\n");
    let errors = daemon.errors();
    for line in errors.lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(!errors.contains('\u{1b}'), "no colours where there is no terminal: {errors}");
    daemon.stop();
}

#[test]
fn events_are_streamed_as_they_happen() {
    let daemon = Daemon::start(BASE);
    let events = std::process::Command::new(crate::support::vxctl())
        .arg("--control")
        .arg(daemon.dir.path().join("control.sock"))
        .args(["-j", "events"])
        .stdout(fs::File::create(daemon.dir.path().join("events")).unwrap())
        .spawn();
    let mut events = events.unwrap();
    let seen = || fs::read_to_string(daemon.dir.path().join("events")).unwrap();
    eventually("an event of a change", PATIENCE, || {
        daemon.ctl("--may-exist add-br br7 -- set bridge br7 fail_mode=secure");
        daemon.ctl("--if-exists del-br br7");
        let text = seen();
        (text.contains("bridges added") && text.contains("br7") && text.contains("uid ")).then_some(())
    });
    daemon.stop();
    events.wait().unwrap();
}
