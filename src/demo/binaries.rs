//! Where PostgreSQL's programs are.
//!
//! Debian keeps `initdb` and `postgres` off PATH, one directory a major version; Red Hat's
//! packages and Homebrew have habits of their own. What is on PATH wins, since somebody put
//! it there on purpose; otherwise the newest version does. All programs are taken from one
//! directory, so that they belong together.

use std::path::{Path, PathBuf};

use super::error::DemoError;

const PROGRAMS: [&str; 4] = ["initdb", "postgres", "psql", "pg_basebackup"];

/// Directories whose children are versions: (parent, prefix of the child, then).
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// One installation's programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds an installation.
    pub fn find() -> Result<Binaries, DemoError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
        Binaries::among(candidates(&on_path, &VERSIONED))
    }

    fn among(candidates: Vec<PathBuf>) -> Result<Binaries, DemoError> {
        candidates
            .into_iter()
            .find(|directory| PROGRAMS.iter().all(|program| directory.join(program).is_file()))
            .map(|directory| Binaries { directory })
            .ok_or_else(|| DemoError::NotInstalled {
                programs: PROGRAMS.join(", "),
                searched: VERSIONED
                    .map(|(parent, prefix, then)| format!("{parent}/{prefix}*/{then}"))
                    .join(", "),
            })
    }

    /// The full path of a program of this installation.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn candidates(on_path: &[PathBuf], versioned: &[(&str, &str, &str)]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in on_path {
        // Often a link into a version's own directory, where the rest of the programs is.
        if let Ok(initdb) = directory.join("initdb").canonicalize() {
            found.extend(initdb.parent().map(Path::to_path_buf));
            found.push(directory.clone());
        }
    }
    let mut installed = Vec::new();
    for (parent, prefix, then) in versioned {
        // A directory that is not there is simply another system's habit.
        let Ok(children) = std::fs::read_dir(parent) else { continue };
        for child in children.flatten() {
            let name = child.file_name();
            if let Some(version) = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(version)
            {
                installed.push((version, child.path().join(then)));
            }
        }
    }
    installed.sort_by(|a, b| b.0.cmp(&a.0));
    found.extend(installed.into_iter().map(|(_, directory)| directory));
    found
}

/// `15` and `9.6` are versions, `latest` is not.
fn version(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(directory: &Path, programs: &[&str]) {
        std::fs::create_dir_all(directory).unwrap();
        for program in programs {
            std::fs::write(directory.join(program), "").unwrap();
        }
    }

    #[test]
    fn the_newest_complete_version_is_taken_and_path_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let versions = root.path().join("versions");
        for name in ["9.6", "15", "16", "latest"] {
            install(&versions.join(name).join("bin"), &PROGRAMS);
        }
        install(&versions.join("17/bin"), &["initdb"]);
        let versioned = [(versions.to_str().unwrap(), "", "bin")];

        let found = Binaries::among(candidates(&[], &versioned)).unwrap();
        assert_eq!(found.program("psql"), versions.join("16/bin/psql"));

        let on_path = root.path().join("path");
        std::fs::create_dir(&on_path).unwrap();
        std::os::unix::fs::symlink(versions.join("15/bin/initdb"), on_path.join("initdb")).unwrap();
        let found = Binaries::among(candidates(&[on_path], &versioned)).unwrap();
        assert_eq!(found.program("psql"), versions.join("15/bin/psql").canonicalize().unwrap());
    }

    #[test]
    fn what_to_install_is_named() {
        let message = Binaries::among(Vec::new()).unwrap_err().to_string();
        assert!(message.contains("apt-get install postgresql"), "{message}");
        assert!(message.contains("/usr/lib/postgresql/*/bin"), "{message}");
    }
}
