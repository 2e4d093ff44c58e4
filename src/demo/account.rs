//! Who runs PostgreSQL.
//!
//! PostgreSQL refuses to run as root. Containers and build machines are root; there its
//! programs run as `postgres` or `nobody`, who then has to own the files and be able to
//! reach them. Everybody else runs them as themselves.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};

use super::error::DemoError;

/// The account that owns the data directories and runs the servers.
#[derive(Clone, Debug)]
pub struct Account {
    /// None: whoever we are.
    other: Option<User>,
}

impl Account {
    /// Ourselves, or an unprivileged account when we are root.
    pub fn unprivileged() -> Result<Account, DemoError> {
        if !Uid::effective().is_root() {
            return Ok(Account { other: None });
        }
        // An unreadable user database is as good as one without the user.
        let user = |name| User::from_name(name).ok().flatten();
        match user("postgres").or_else(|| user("nobody")) {
            Some(user) => Ok(Account { other: Some(user) }),
            None => Err(DemoError::NoAccount),
        }
    }

    /// Ourselves, whoever that is.
    pub fn own() -> Account {
        Account { other: None }
    }

    /// A command that runs as this account.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // libpq's and the server's own variables would send it to somebody else's cluster.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        // Messages are shown and looked at; the current directory may be closed to the account.
        command.env("LC_ALL", "C").current_dir("/");
        if let Some(user) = &self.other {
            // std also clears the supplementary groups when root gives up its uid.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Makes the account the owner of a file or directory.
    pub fn give(&self, path: &Path) -> Result<(), DemoError> {
        match &self.other {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(DemoError::io("give away", path)),
            None => Ok(()),
        }
    }

    /// Creates a directory that belongs to the account, with the parents it needs.
    pub fn make_directory(&self, path: &Path) -> Result<(), DemoError> {
        std::fs::create_dir_all(path).map_err(DemoError::io("create", path))?;
        self.give(path)
    }

    /// Writes a file that belongs to the account.
    pub fn write(&self, path: &Path, contents: &str) -> Result<(), DemoError> {
        std::fs::write(path, contents).map_err(DemoError::io("write", path))?;
        self.give(path)
    }

    /// Fails when the account cannot get into the directory, and says which parent is shut.
    pub fn can_enter(&self, path: &Path) -> Result<(), DemoError> {
        let Some(user) = &self.other else { return Ok(()) };
        let entered = self
            .command(Path::new("/bin/sh"))
            .args(["-c", "cd -- \"$1\"", "sh"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(DemoError::io("run", Path::new("/bin/sh")))?;
        if entered.success() {
            return Ok(());
        }
        Err(DemoError::Unreachable { account: user.name.clone(), blocked: first_shut(path, user) })
    }
}

fn first_shut(path: &Path, user: &User) -> PathBuf {
    let mut parents: Vec<&Path> = path.ancestors().collect();
    parents.reverse();
    parents
        .into_iter()
        .find(|parent| {
            parent.metadata().is_ok_and(|about| {
                about.uid() != user.uid.as_raw()
                    && about.gid() != user.gid.as_raw()
                    && about.permissions().mode() & 0o001 == 0
            })
        })
        .unwrap_or(path)
        .to_path_buf()
}
