//! Against the real `ovsdb-server`, with Debian's `ovs-vsctl` as the other client.

use ovsdb::rows::{Bridge, DATABASE, Interface, LOCK, MONITORED, OpenVSwitch, Port};
use ovsdb::{Client, Datum, Event, Replica, Target, Transaction};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

struct Server {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("conf.db");
        let made = Command::new("ovsdb-tool").arg("create").arg(&database).arg(SCHEMA).status().unwrap();
        assert!(made.success());
        let mut server = Server { child: None, dir };
        server.run();
        let init = server.vsctl(&["--no-wait", "init"]).status().unwrap();
        assert!(init.success());
        server
    }

    fn run(&mut self) {
        let dir = self.dir.path();
        let child = Command::new("ovsdb-server")
            .arg(dir.join("conf.db"))
            .arg(format!("--remote=punix:{}", self.socket().display()))
            .arg(format!("--unixctl={}", dir.join("ctl").display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server of openvswitch-switch");
        self.child = Some(child);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("db.sock")
    }

    fn vsctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ovs-vsctl");
        command.arg(format!("--db=unix:{}", self.socket().display())).arg("--timeout=20").args(args);
        command
    }

    fn client(&self) -> Client {
        Client::new(Target::Unix(self.socket()), DATABASE, LOCK, MONITORED)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until the replica is as wanted.
async fn until<T>(client: &mut Client, mut wanted: impl FnMut(&Replica) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = client.replica().and_then(&mut wanted) {
                return found;
            }
            client.next().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("the replica becomes as wanted")
}

async fn until_event<T>(client: &mut Client, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = wanted(client.next().await) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("the event comes")
}

#[tokio::test(flavor = "current_thread")]
async fn ovs_vsctl_returns_when_the_configuration_is_in_effect() {
    let server = Server::start();
    let mut client = server.client();
    until_event(&mut client, |event| matches!(event, Event::Locked(true)).then_some(())).await;
    let mut vsctl = server
        .vsctl(&["add-br", "br0", "--", "add-port", "br0", "vx1", "tag=7", "--", "set", "interface", "vx1"])
        .args(["type=vxlan", "options:remote_ip=10.0.0.2", "options:key=flow"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bridge = until(&mut client, |replica| {
        Bridge::all(replica).find(|bridge| bridge.name == "br0" && bridge.ports.0.len() == 2)
    })
    .await;
    let replica = client.replica().unwrap();
    let root = OpenVSwitch::all(replica).next().unwrap();
    assert!(root.next_cfg > root.cur_cfg && root.bridges.0 == [bridge.uuid.clone()]);
    let ports: Vec<Port> = bridge.ports.0.iter().filter_map(|uuid| Port::find(replica, uuid)).collect();
    let vx1 = ports.iter().find(|port| port.name == "vx1").unwrap();
    assert_eq!(vx1.tag, Some(7));
    let interface = Interface::find(replica, &vx1.interfaces.0[0]).unwrap();
    assert_eq!((interface.r#type.as_str(), interface.options["remote_ip"].as_str()), ("vxlan", "10.0.0.2"));
    // ovs-vsctl waits, and says what is wrong with an interface.
    assert!(vsctl.try_wait().unwrap().is_none());
    let mut transaction = Transaction::new();
    let error = [("ofport", Datum::integer(-1)), ("error", Datum::text("no way"))];
    transaction.update("Interface", &interface.uuid, &error.into());
    transaction.update("Open_vSwitch", &root.uuid, &[("cur_cfg", Datum::integer(root.next_cfg))].into());
    let id = client.transact(transaction).unwrap();
    let error = until_event(&mut client, |event| match event {
        Event::Done(outcome) if outcome.id == id => Some(outcome.error),
        _ => None,
    })
    .await;
    assert_eq!(error, None);
    let output = vsctl.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no way"), "{output:?}");
    // What was written comes back, as does what others change: differences of sets and maps.
    until(&mut client, |replica| {
        (Interface::find(replica, &interface.uuid)?.error.as_deref() == Some("no way")).then_some(())
    })
    .await;
    let set = |args: &[&str]| assert!(server.vsctl(args).status().unwrap().success());
    set(&["--no-wait", "set", "port", "vx1", "trunks=1,2,3", "other_config:a=1", "other_config:b=2"]);
    set(&[
        "--no-wait",
        "remove",
        "port",
        "vx1",
        "trunks",
        "2",
        "--",
        "set",
        "port",
        "vx1",
        "other_config:a=9",
    ]);
    set(&["--no-wait", "remove", "port", "vx1", "other_config", "b", "--", "clear", "port", "vx1", "tag"]);
    until(&mut client, |replica| {
        let port = Port::find(replica, &vx1.uuid)?;
        let other = port.other_config.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>();
        (port.trunks == [1, 3] && other == [("a", "9")] && port.tag.is_none()).then_some(())
    })
    .await;
    set(&["--no-wait", "del-br", "br0"]);
    until(&mut client, |replica| Bridge::all(replica).next().is_none().then_some(())).await;
}

#[tokio::test(flavor = "current_thread")]
async fn one_holds_the_lock_and_the_other_takes_over() {
    let server = Server::start();
    let mut first = server.client();
    until_event(&mut first, |event| matches!(event, Event::Locked(true)).then_some(())).await;
    let mut second = server.client();
    until_event(&mut second, |event| matches!(event, Event::Locked(false)).then_some(())).await;
    // Without the lock nothing is written.
    let root = until(&mut second, |replica| OpenVSwitch::all(replica).next()).await;
    let mut transaction = Transaction::new();
    transaction.update("Open_vSwitch", &root.uuid, &[("cur_cfg", Datum::integer(5))].into());
    let id = second.transact(transaction).unwrap();
    let error = until_event(&mut second, |event| match event {
        Event::Done(outcome) if outcome.id == id => Some(outcome.error),
        _ => None,
    })
    .await;
    assert!(error.is_some_and(|error| error.contains("not owner")));
    drop(first);
    until_event(&mut second, |event| matches!(event, Event::Locked(true)).then_some(())).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_goes_away_is_found_again() {
    let mut server = Server::start();
    let mut client = server.client();
    until(&mut client, |replica| OpenVSwitch::all(replica).next()).await;
    server.stop();
    until_event(&mut client, |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    assert!(client.replica().is_none() && !client.locked());
    server.run();
    until(&mut client, |replica| OpenVSwitch::all(replica).next()).await;
    while !client.locked() {
        client.next().await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_database_server_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("sock");
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            // As a server of another kind does: it reads a request, answers and closes.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n");
        }
    });
    let mut client = Client::new(Target::Unix(path.into()), DATABASE, LOCK, MONITORED);
    let why = until_event(&mut client, |event| match event {
        Event::Disconnected(why) => Some(why),
        _ => None,
    })
    .await;
    assert!(why.contains("expected a JSON object"), "{why}");
}
