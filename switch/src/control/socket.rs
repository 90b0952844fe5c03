//! The control socket's place in the file system.

use super::sys;
use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon listens on it.
    #[error("another vxswitch answers on {0}: stop it, or choose another --control")]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{0} exists and is no socket: expected a free path for --control")]
    NotASocket(PathBuf),
    /// The file system or kernel refuses.
    #[error("control socket {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// A listening socket whose file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    /// The listener.
    pub listener: UnixListener,
    /// Its path.
    pub path: PathBuf,
}

impl ControlSocket {
    /// Binds `path` for its owner only (mode 0600). A stale socket is replaced, a live one refused. Before there are
    /// other threads.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<ControlSocket, SocketError> {
        use std::os::unix::fs::FileTypeExt;
        let io = |error| SocketError::Io(path.to_owned(), error);
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(io)?;
                }
                // Whoever it is, somebody listens, or we may not even ask.
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
                Err(error) => return Err(io(error)),
            },
            Err(_) => {}
        }
        let listener = sys::owner_only(|| UnixListener::bind(path)).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        Ok(ControlSocket { listener, path: path.to_owned() })
    }
}

/// Removes the socket's file when the daemon is done.
#[derive(Debug)]
pub struct Remove(pub PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // It may be gone already; there is nobody left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn live_sockets_are_refused_and_stale_ones_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/x.sock");
        let first = ControlSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::InUse(_))));
        drop(first);
        assert!(path.exists(), "the file outlives the listener");
        ControlSocket::bind(&path).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(ControlSocket::bind(&file), Err(SocketError::NotASocket(_))));
        assert!(file.exists());
    }
}
