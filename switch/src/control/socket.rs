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
    /// Nobody of that name.
    #[error("--control-group {0}: there is no such group in /etc/group")]
    NoGroup(String),
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
    /// Where it is until it takes its place, if another process still has that.
    aside: Option<PathBuf>,
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
        Ok(ControlSocket { listener, path: path.to_owned(), aside: None })
    }

    /// Binds beside `path`, where another process listens whose place is to be taken.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind_aside(path: &Path) -> Result<ControlSocket, SocketError> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        let socket = ControlSocket::bind(Path::new(&aside))?;
        Ok(ControlSocket { path: path.to_owned(), aside: Some(socket.path), ..socket })
    }

    /// Takes its place.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn take_place(&mut self) -> Result<(), SocketError> {
        let Some(aside) = self.aside.take() else { return Ok(()) };
        std::fs::rename(aside, &self.path).map_err(|error| SocketError::Io(self.path.clone(), error))
    }

    /// Removes its file when the daemon is done.
    pub fn remover(&self) -> Remove {
        let bound = self.aside.as_ref().unwrap_or(&self.path);
        let paths = [Some(&self.path), self.aside.as_ref()];
        Remove { paths: paths.into_iter().flatten().cloned().collect(), file: identity(bound) }
    }

    /// Lets the members of a local group use the socket, too (mode 0660).
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn share(&self, group: &str) -> Result<(), SocketError> {
        use std::os::unix::fs::PermissionsExt;
        let io = |error| SocketError::Io(self.path.clone(), error);
        let groups = std::fs::read_to_string("/etc/group").map_err(io)?;
        let id = group_id(&groups, group).ok_or_else(|| SocketError::NoGroup(group.to_owned()))?;
        let bound = self.aside.as_ref().unwrap_or(&self.path);
        std::os::unix::fs::chown(bound, None, Some(id)).map_err(io)?;
        std::fs::set_permissions(bound, std::fs::Permissions::from_mode(0o660)).map_err(io)
    }
}

/// The number of a group in the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let mut fields = groups.lines().map(|line| line.split(':'));
    let mut group = fields.find_map(|mut of| (of.next() == Some(name)).then_some(of))?;
    group.nth(1)?.parse().ok()
}

/// What tells a file from others that have had its name.
fn identity(path: &Path) -> Option<(u64, u64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).ok()?;
    // The number may be another file's, later.
    Some((meta.dev(), meta.ino(), meta.mtime_nsec()))
}

/// Removes the socket's file when the daemon is done, unless another process has taken its place.
#[derive(Debug, Clone)]
pub struct Remove {
    paths: Vec<PathBuf>,
    file: Option<(u64, u64, i64)>,
}

impl Remove {
    /// Of the file that is at `path` now.
    pub fn new(path: PathBuf) -> Remove {
        Remove { file: identity(&path), paths: vec![path] }
    }

    /// Removes it now.
    pub fn remove(&self) {
        for path in &self.paths {
            if self.file.is_some() && identity(path) == self.file {
                // There is nobody left to tell.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

impl Drop for Remove {
    fn drop(&mut self) {
        self.remove();
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

    #[test]
    fn a_group_may_use_it_if_it_shall() {
        use std::os::unix::fs::MetadataExt;
        let groups = "root:x:0:\nrootless:x:7:a,b\nodd\nlast:x:9:";
        assert_eq!(group_id(groups, "rootless"), Some(7));
        assert_eq!(
            (group_id(groups, "roo"), group_id(groups, "odd"), group_id(groups, "last")),
            (None, None, Some(9))
        );
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(&dir.path().join("x.sock")).unwrap();
        let wrong = socket.share("no-such-group").unwrap_err();
        assert!(wrong.to_string().contains("no-such-group"), "{wrong}");
        let meta = || std::fs::metadata(&socket.path).unwrap();
        assert_eq!(meta().mode() & 0o777, 0o600, "still the owner's alone");
        // Of one's own group, which needs no root.
        let own = meta().gid();
        let groups = std::fs::read_to_string("/etc/group").unwrap();
        let name = groups.lines().find(|line| line.split(':').nth(2) == Some(&own.to_string()));
        socket.share(name.unwrap().split(':').next().unwrap()).unwrap();
        assert_eq!((meta().mode() & 0o777, meta().gid()), (0o660, own));
    }
}
