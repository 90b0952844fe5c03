//! HTTP over the control socket.

use super::Failure;
use api::ErrorBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A way to the daemon.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    path: PathBuf,
    timeout: Option<Duration>,
}

impl Client {
    /// Nothing is sent yet. An answer that takes longer than `timeout` is an error.
    pub fn new(path: &Path, timeout: Option<Duration>) -> Result<Client, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Connection(format!("starting: {error}")))?;
        Ok(Client { runtime, path: path.to_owned(), timeout })
    }

    /// `GET`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.json(Method::GET, path, Vec::new())
    }

    /// `POST` of JSON.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Connection(error.to_string()))?;
        self.json(Method::POST, path, body)
    }

    /// `PUT` of TOML.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, Failure> {
        self.json(Method::PUT, path, body.into_bytes())
    }

    fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        let (ok, answer) = self.runtime.block_on(async {
            let Some(limit) = self.timeout else { return self.send(method, path, body).await };
            let answer = tokio::time::timeout(limit, self.send(method, path, body)).await;
            answer.unwrap_or_else(|_| Err(self.lost(&format!("no answer within {limit:?} (--timeout)"))))
        })?;
        if ok {
            return serde_json::from_slice(&answer)
                .map_err(|error| Failure::Connection(format!("answer of the daemon: {error}")));
        }
        Err(refusal(&answer))
    }

    /// `GET` of a stream, piece by piece to `take`. Returns the trailer called `end`.
    pub fn stream(
        &self,
        path: &str,
        end: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Option<String>, Failure> {
        self.runtime.block_on(async {
            let (connection, mut answer) = self.request(Method::GET, path, Vec::new()).await?;
            if !answer.status().is_success() {
                let body = answer.into_body().collect().await.map_err(|e| self.lost(&e))?.to_bytes();
                connection.abort();
                return Err(refusal(&body));
            }
            let mut reason = None;
            while let Some(frame) = answer.body_mut().frame().await {
                let frame = frame.map_err(|e| self.lost(&e))?;
                if let Some(bytes) = frame.data_ref() {
                    take(bytes)?;
                } else if let Some(value) = frame.trailers_ref().and_then(|trailers| trailers.get(end)) {
                    reason = Some(String::from_utf8_lossy(value.as_bytes()).into_owned());
                }
            }
            connection.abort();
            Ok(reason)
        })
    }

    /// Process id of whoever listens on the control socket.
    pub fn daemon(&self) -> Option<u32> {
        let peer = self.runtime.block_on(async { UnixStream::connect(&self.path).await?.peer_cred() });
        peer.ok()?.pid()?.try_into().ok()
    }

    fn lost(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Connection(format!("control socket {}: {error}", self.path.display()))
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(bool, Bytes), Failure> {
        let (connection, answer) = self.request(method, path, body).await?;
        let ok = answer.status().is_success();
        let body = answer.into_body().collect().await.map_err(|e| self.lost(&e))?.to_bytes();
        connection.abort();
        Ok((ok, body))
    }

    /// Sends a request; the answer comes as long as the connection's task runs.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(JoinHandle<hyper::Result<()>>, Response<Incoming>), Failure> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| {
            let path = self.path.display();
            Failure::Connection(format!(
                "no vxswitch answers on {path} ({error}); is it running? see --control"
            ))
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.lost(&e))?;
        let connection = tokio::spawn(connection);
        // PUT is TOML, the daemon's default; all else is JSON.
        let kind = if method == Method::PUT { "application/toml" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "vxswitch")
            .header("content-type", kind)
            // A stream says by a trailer why it ended.
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| self.lost(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| self.lost(&e))?;
        Ok((connection, answer))
    }
}

/// What a refusal's body says.
fn refusal(body: &[u8]) -> Failure {
    let error = serde_json::from_slice::<ErrorBody>(body)
        .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |body| body.error);
    Failure::Refused(error)
}

/// A piece of a path or query, with everything escaped that has a meaning there.
pub fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_means_something_in_a_url() {
        assert_eq!(escape("ip,nw_dst=10.0.0.0/8"), "ip%2Cnw_dst%3D10.0.0.0%2F8");
        assert_eq!(escape("br-phy_1.x"), "br-phy_1.x");
        assert_eq!(escape("a b?&#ä"), "a%20b%3F%26%23%C3%A4");
    }
}
