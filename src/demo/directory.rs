//! A demo's directory: data directories, logs, the configuration, and a marker that says
//! what is in it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::account::Account;
use super::error::DemoError;

const MARKER: &str = "demo.toml";

/// How many servers a demo has. Rows are placed for a number of shards, so a kept directory
/// serves that number only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) shards: u16,
    pub(super) replicas: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    shape: Shape,
    /// False: a start was interrupted, what is there is incomplete.
    loaded: bool,
}

pub(super) struct Directory {
    path: PathBuf,
    shape: Shape,
    was_loaded: bool,
    /// Removed when dropped.
    temporary: Option<TempDir>,
}

impl Directory {
    /// The directory the user named, or a temporary one, ready to be filled or started from.
    pub(super) fn open(account: &Account, kept: Option<&Path>, shape: Shape) -> Result<Directory, DemoError> {
        let Some(kept) = kept else {
            let parent = std::env::temp_dir();
            let temporary = tempfile::Builder::new()
                .prefix("pgring-demo-")
                .permissions(std::fs::Permissions::from_mode(0o755))
                .tempdir()
                .map_err(DemoError::io("create a directory in", &parent))?;
            let path = temporary.path().to_path_buf();
            account.give(&path)?;
            account.can_enter(&path)?;
            return Ok(Directory { path, shape, was_loaded: false, temporary: Some(temporary) });
        };
        let path = std::path::absolute(kept).map_err(DemoError::io("find", kept))?;
        let was_loaded = path.exists() && inspect(&path, shape)?;
        account.make_directory(&path)?;
        account.can_enter(&path)?;
        let directory = Directory { path, shape, was_loaded, temporary: None };
        if !was_loaded {
            directory.clear()?;
            directory.mark(false)?;
        }
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Did it hold the sample's rows when it was opened?
    pub(super) fn was_loaded(&self) -> bool {
        self.was_loaded
    }

    /// Will it be there after the demo?
    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// From now on the directory is complete.
    pub(super) fn mark_loaded(&self) -> Result<(), DemoError> {
        if self.was_loaded { Ok(()) } else { self.mark(true) }
    }

    fn mark(&self, loaded: bool) -> Result<(), DemoError> {
        let path = self.path.join(MARKER);
        let marker = Marker { shape: self.shape, loaded };
        let text = toml::to_string(&marker)
            .map_err(|error| DemoError::Marker { path: path.clone(), reason: error.to_string() })?;
        std::fs::write(&path, text).map_err(DemoError::io("write", &path))
    }

    /// Removes what an interrupted start has left; the directory is ours, says its marker.
    fn clear(&self) -> Result<(), DemoError> {
        for entry in std::fs::read_dir(&self.path).map_err(DemoError::io("read", &self.path))? {
            let path = entry.map_err(DemoError::io("read", &self.path))?.path();
            let removed = if path.is_dir() && !path.is_symlink() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(DemoError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Does the directory hold this demo, complete? False: nothing, or an interrupted start.
fn inspect(path: &Path, shape: Shape) -> Result<bool, DemoError> {
    let marker = path.join(MARKER);
    if !marker.exists() {
        let mut entries = std::fs::read_dir(path).map_err(DemoError::io("read", path))?;
        return match entries.next() {
            None => Ok(false),
            Some(_) => Err(DemoError::ForeignDirectory(path.to_path_buf())),
        };
    }
    let text = std::fs::read_to_string(&marker).map_err(DemoError::io("read", &marker))?;
    let found: Marker = toml::from_str(&text)
        .map_err(|error| DemoError::Marker { path: marker, reason: error.message().to_owned() })?;
    if found.loaded && found.shape != shape {
        let Shape { shards, replicas } = found.shape;
        return Err(DemoError::OtherShape { dir: path.to_path_buf(), shards, replicas });
    }
    Ok(found.loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Shape = Shape { shards: 3, replicas: 0 };

    fn open(path: &Path, shape: Shape) -> Result<Directory, DemoError> {
        Directory::open(&Account::own(), Some(path), shape)
    }

    #[test]
    fn a_complete_directory_is_used_again_and_only_in_its_shape() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/demo");
        let first = open(&path, THREE).unwrap();
        assert!(!first.was_loaded() && first.is_kept());
        std::fs::write(path.join("s1"), "half").unwrap();

        assert!(!open(&path, THREE).unwrap().was_loaded(), "the first start never finished");
        assert!(!path.join("s1").exists());
        first.mark_loaded().unwrap();
        std::fs::write(path.join("s1"), "whole").unwrap();

        assert!(open(&path, THREE).unwrap().was_loaded());
        assert!(path.join("s1").exists());
        let other = open(&path, Shape { shards: 2, replicas: 0 });
        assert!(matches!(other, Err(DemoError::OtherShape { shards: 3, .. })));
    }

    #[test]
    fn somebody_elses_directory_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("thesis.txt");
        std::fs::write(&file, "years").unwrap();
        assert!(matches!(open(directory.path(), THREE), Err(DemoError::ForeignDirectory(_))));
        assert!(file.exists());
    }

    #[test]
    fn a_temporary_directory_is_removed() {
        let directory = Directory::open(&Account::own(), None, THREE).unwrap();
        let path = directory.path().to_path_buf();
        assert!(path.exists());
        drop(directory);
        assert!(!path.exists());
    }
}
