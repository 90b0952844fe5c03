//! Takes the place of a running process: asks it on its control socket for what it is and has learned, gets its taps and its
//! metrics socket, and lets it close everything else.

use super::apply::Inherited;
use super::rules;
use crate::slowpath::restore::Learned;
use anyhow::{Context, Result, bail};
use api::{DocumentBody, ErrorBody, Handover};
use config::Document;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long the other process may take to answer, the closing of its devices included.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running process whose place is to be taken.
#[derive(Debug)]
pub struct Taking {
    /// Its control socket.
    pub socket: PathBuf,
}

/// What it hands over, while it still forwards.
#[derive(Debug)]
pub struct Begun {
    socket: PathBuf,
    taken: Taken,
    /// The other process goes on alone when this ends.
    answer: Response<Incoming>,
}

/// What was handed over.
#[derive(Debug)]
pub struct Taken {
    /// The desired state.
    pub document: Document,
    /// What the other process had open and had learned.
    pub inherited: Inherited,
    /// The socket on which its metrics endpoint listened.
    pub metrics: TcpListener,
}

impl Taking {
    /// What the process is told to be, to prepare for it.
    ///
    /// # Errors
    /// Nobody answers, or not as expected.
    pub fn document(&self) -> Result<Document> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
        let body: DocumentBody = runtime.block_on(async {
            let (mut sender, _) = self.connect().await?;
            json(ask(&mut sender, Method::GET, "/v1/document").await?).await
        })?;
        parse(&body.toml)
    }

    /// Asks for everything. The other process changes nothing from here on.
    ///
    /// # Errors
    /// Nobody answers, or not as expected, or its descriptors cannot be had.
    pub async fn begin(self) -> Result<Begun> {
        let (mut sender, pid) = self.connect().await?;
        let mut answer = ask(&mut sender, Method::POST, "/v1/handover").await?;
        let handover =
            tokio::time::timeout(PATIENCE, first_line(&mut answer)).await.context("its answer")??;
        let document = parse(&handover.toml)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).context("the other process")?;
        let get = |descriptor: i32| -> Result<OwnedFd> {
            pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).with_context(|| {
                format!(
                    "getting a descriptor of process {}: expected the same user, and CAP_SYS_PTRACE where \
                     kernel.yama.ptrace_scope is not 0",
                    pid.as_raw_nonzero()
                )
            })
        };
        let mut inherited = Inherited { ofports: handover.ofports, ..Inherited::default() };
        for (name, queues) in handover.taps {
            let files: Result<Vec<_>> =
                queues.into_iter().map(|queue| Ok(Arc::new(File::from(get(queue)?)))).collect();
            inherited.taps.insert(name, files?);
        }
        inherited.learned =
            Learned { fdb: handover.fdb, neighbours: handover.neighbours, hosts: handover.hosts };
        let metrics = TcpListener::from(get(handover.metrics)?);
        Ok(Begun { socket: self.socket, taken: Taken { document, inherited, metrics }, answer })
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, Pid)> {
        connect(&self.socket).await.with_context(|| {
            format!("{}: expected a vxswitch that answers there and can be taken over", self.socket.display())
        })
    }
}

impl Begun {
    /// Lets the other process close its devices, and waits until it has.
    ///
    /// # Errors
    /// It does not answer, or could not close them.
    pub async fn confirm(self) -> Result<Taken> {
        let Begun { socket, taken, answer } = self;
        let closing = async {
            let (mut sender, _) = connect(&socket).await?;
            json::<api::Done>(ask(&mut sender, Method::POST, "/v1/handover/confirm").await?).await
        };
        tokio::time::timeout(PATIENCE, closing)
            .await
            .context("the other process does not close its devices")?
            .context("the other process")?;
        // It ends when this hangs up.
        drop(answer);
        Ok(taken)
    }
}

async fn connect(socket: &std::path::Path) -> Result<(SendRequest<Full<Bytes>>, Pid)> {
    let stream = UnixStream::connect(socket).await?;
    let pid =
        stream.peer_cred()?.pid().and_then(Pid::from_raw).context("the socket does not tell whose it is")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok((sender, pid))
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
) -> Result<Response<Incoming>> {
    let request =
        Request::builder().method(method).uri(path).header("host", "vxswitch").body(Full::default())?;
    let answer =
        tokio::time::timeout(PATIENCE, sender.send_request(request)).await.context("no answer")??;
    if !answer.status().is_success() {
        let body = answer.into_body().collect().await?.to_bytes();
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(refused) => bail!("it refuses: {}", refused.error),
            Err(_) => bail!("it is a vxswitch that cannot be taken over"),
        }
    }
    Ok(answer)
}

async fn json<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T> {
    let body = answer.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).context("its answer")
}

async fn first_line(answer: &mut Response<Incoming>) -> Result<Handover> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let Some(frame) = answer.body_mut().frame().await else {
            bail!("it hands nothing over: see its log")
        };
        line.extend(frame?.data_ref().into_iter().flatten());
    }
    serde_json::from_slice(&line).context("its answer")
}

fn parse(toml: &str) -> Result<Document> {
    config::parse_str("the other process's document", toml, &rules::Check(None))
        .map_err(|errors| anyhow::anyhow!("{errors}"))
}

/// EAL's arguments, so that both processes have files of their own for as long as both run.
pub fn own_prefix(args: &[String], id: u32) -> Vec<String> {
    const OPTION: &str = "--file-prefix";
    if args.iter().any(|arg| arg == "--in-memory" || arg == "--no-shconf") {
        return args.to_vec();
    }
    let mut args = args.to_vec();
    if let Some(at) = args.iter().position(|arg| arg == OPTION)
        && let Some(prefix) = args.get_mut(at + 1)
    {
        *prefix = format!("{prefix}.{id}");
    } else if let Some(arg) = args.iter_mut().find(|arg| arg.starts_with("--file-prefix=")) {
        *arg = format!("{arg}.{id}");
    } else {
        args.push(format!("{OPTION}=rte.{id}"));
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_processes_have_files_of_their_own() {
        let prefix =
            |text: &str| own_prefix(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), 7).join(" ");
        assert_eq!(prefix("vxswitch -l 0"), "vxswitch -l 0 --file-prefix=rte.7");
        assert_eq!(prefix("vxswitch --file-prefix a -l 0"), "vxswitch --file-prefix a.7 -l 0");
        assert_eq!(prefix("vxswitch --file-prefix=a"), "vxswitch --file-prefix=a.7");
        assert_eq!(prefix("vxswitch --in-memory"), "vxswitch --in-memory");
    }
}
