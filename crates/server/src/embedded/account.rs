//! As whom PostgreSQL runs: ourselves, or an unprivileged account when we are root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// The accounts a server started by root may run as, best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An account of the operating system, by number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Account {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

impl Account {
    /// Returns the account to drop to, or `None` when this process is not root.
    ///
    /// # Errors
    ///
    /// Fails for root on a machine that has neither `postgres` nor `nobody`.
    pub fn for_server() -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        match Self::best_of(&passwd) {
            Some(account) => Ok(Some(account)),
            None => bail!(
                "PostgreSQL refuses to run as root, and there is no user postgres or nobody; \
                 run walcast as an ordinary user, or use `walcast serve` with DATABASE_URL"
            ),
        }
    }

    fn best_of(passwd: &str) -> Option<Self> {
        CANDIDATES.iter().find_map(|name| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                if fields.next() != Some(name) {
                    return None;
                }
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                // An account that is root under another name would be refused as well.
                (uid != 0).then_some(Self { uid, gid })
            })
        })
    }

    /// Makes `command` run as this account.
    pub fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives `path` to this account.
    ///
    /// # Errors
    ///
    /// Fails as chown(2) does.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to user {}", path.display(), self.uid))
    }

    /// The first folder above `path` that this account may not enter, if there is one.
    pub(super) fn closed_folder_above(self, path: &Path) -> Option<&Path> {
        let is_closed = |folder: &&Path| {
            fs::metadata(folder).is_ok_and(|folder| {
                let bit = if folder.uid() == self.uid {
                    0o100
                } else if folder.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                folder.mode() & bit == 0
            })
        };
        path.ancestors().skip(1).filter(is_closed).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(passwd: &str, expected: Option<(u32, u32)>) {
        let expected = expected.map(|(uid, gid)| Account { uid, gid });
        assert_eq!(Account::best_of(passwd), expected, "{passwd:?}");
    }

    #[test]
    fn postgres_is_preferred_to_nobody_and_root_is_never_taken() {
        let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
        let postgres = "postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n";
        check(&format!("{nobody}{postgres}"), Some((101, 104)));
        check(nobody, Some((65534, 65534)));
        check("root:x:0:0:root:/root:/bin/bash\n", None);
        check("postgres:x:0:0::/:/bin/sh\n", None);
        check("postgres:x:many:0\npostgres\n", None);
        check("", None);
    }
}
