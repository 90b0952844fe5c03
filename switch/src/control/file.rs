//! The file that the daemon was started with: read again when asked to, and, if it is to be kept, written whenever the
//! document has changed.

use super::apply::Switch;
use super::rules;
use config::{Document, Settings};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// The document could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be written: {error}")]
pub struct SaveError {
    path: String,
    error: io::Error,
}

/// The file of a daemon.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Every change is written.
    persists: bool,
    /// The file's own global settings, where the command line may say others and a hash seed may have been drawn.
    settings: Settings,
    /// What the file says, as far as is known.
    saved: Mutex<Option<Document>>,
}

impl ConfigFile {
    /// The file at `path`, which has been read as `document`.
    pub fn new(path: &Path, persists: bool, document: &Document) -> ConfigFile {
        ConfigFile {
            path: path.to_owned(),
            persists,
            settings: document.settings(),
            saved: Mutex::new(persists.then(|| document.clone())),
        }
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether every change is written.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// Reads it again. Settings that the command line has overridden at the start stay so.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&self, running: Settings) -> Result<Document, config::Errors> {
        let mut document = config::parse_file(&self.path, &rules::Check(None))?;
        let mut own = document.settings();
        // Drawn at the start where the file has none; written since, it is no change.
        if own.datapath.hash_seed == running.datapath.hash_seed {
            own.datapath.hash_seed = self.settings.datapath.hash_seed;
        }
        if own == self.settings {
            (document.dpdk, document.datapath) = (running.dpdk, running.datapath);
        }
        Ok(document)
    }

    /// Writes the document as it is now; comments and order of the file stay. Returns when it is on disk. Whoever
    /// comes while another writes finds his change written, too.
    ///
    /// # Errors
    /// [`SaveError`]; the file is what it was.
    pub async fn save(&self, switch: &Mutex<Switch>) -> Result<(), SaveError> {
        let mut saved = self.saved.lock().await;
        let mut document = switch.lock().await.document.clone();
        let seed = document.datapath.hash_seed;
        (document.dpdk, document.datapath) = (self.settings.dpdk, self.settings.datapath);
        document.datapath.hash_seed = seed;
        if saved.as_ref() == Some(&document) {
            return Ok(());
        }
        let (path, written) = (self.path.clone(), document.clone());
        let outcome = tokio::task::spawn_blocking(move || write(&path, &written)).await;
        match outcome.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => {
                *saved = Some(document);
                Ok(())
            }
            Err(error) => Err(SaveError { path: self.path.display().to_string(), error }),
        }
    }
}

/// Puts a document into a file, of which the rest stays. A crash at any moment leaves the old file or the new one.
pub fn write(path: &Path, document: &Document) -> io::Result<()> {
    // A link stays one: what it points to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let new = dir.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    if let Ok(meta) = std::fs::metadata(&path) {
        file.set_permissions(meta.permissions())?;
    }
    file.write_all(document.update_toml(&before).as_bytes())?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&new, &path)?;
    // The new name is on disk when the directory is.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn links_and_permissions_stay_and_nothing_is_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        std::fs::write(&path, "# mine\n[[bridge]]\nname = \"br0\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        let bridges = ["br0", "br1"].map(config::Bridge::new).into();
        write(&link, &Document { bridges, ..Document::default() }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\n") && text.contains("br1"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(write(&dir.path().join("no/such/dir.toml"), &Document::default()).is_err());
        write(&dir.path().join("new.toml"), &Document::default()).unwrap();
    }
}
