//! Registrations on disk: `services/` and `checks/` in the data directory, one file each, named by
//! the digest of its id.
//!
//! A file is written beside its place, flushed, and renamed into it, and then the directory is
//! flushed: after a power cut either the old or the new content is there, whole. A file that can't be
//! read back is set aside under another name, with a word in the log; the others load.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use state::{Check, Status, Str};
use tokio::time::Instant;

use super::local::{Local, Registrant};
use super::model::{LocalService, Source};
use super::stored::{StoredCheck, StoredService};
use super::validate::NewCheck;
use crate::error::{Error, Reason};

/// Ends the name of a file that holds a registration.
const SUFFIX: &str = "json";

/// Ends the name of a file that was set aside.
const BROKEN: &str = "broken";

/// Ends the name of a file that is being written.
const UNFINISHED: &str = "tmp";

/// Where registrations are kept.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    services: PathBuf,
    checks: PathBuf,
}

/// A check as it goes to disk.
#[derive(Debug)]
pub(super) struct CheckToStore {
    /// The check.
    pub(super) row: Arc<Check>,
    /// Who registered it.
    pub(super) registrant: Registrant,
    /// Since when it is critical.
    pub(super) critical_since: Option<Instant>,
}

/// What is to be written and removed together. Checks go before their instance, and come after it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Instances to write.
    pub(super) services: Vec<LocalService>,
    /// Checks to write.
    pub(super) checks: Vec<CheckToStore>,
    /// Instances to remove, by id.
    pub(super) removed_services: Vec<Str>,
    /// Checks to remove, by id.
    pub(super) removed_checks: Vec<Str>,
}

impl Batch {
    /// The same with a registration: written if it is to outlive a restart; else what was stored under
    /// its ids goes.
    pub(super) fn with(mut self, local: &Local, service: Option<&LocalService>, checks: &[NewCheck]) -> Self {
        if let Some(service) = service {
            match service.source {
                Source::Api => self.services.push(service.clone()),
                Source::Config => self.removed_services.push(service.row.id.clone()),
            }
        }
        for check in checks {
            let registrant = Registrant { token: check.token.clone(), source: check.source };
            match check.source {
                Source::Api => {
                    let row = Arc::new(local.merged(check));
                    let since = (row.status == Status::Critical).then(|| local.critical_since(&row.id).unwrap_or_else(Instant::now));
                    self.checks.push(CheckToStore { row, registrant, critical_since: since });
                }
                Source::Config => self.removed_checks.push(check.row.id.clone()),
            }
        }
        self
    }
}

impl Storage {
    /// Opens, and if need be creates, the directories in `data_dir`.
    pub(super) fn open(data_dir: &Path) -> Result<Self, Error> {
        let storage = Storage { services: data_dir.join("services"), checks: data_dir.join("checks") };
        for folder in [&storage.services, &storage.checks] {
            fs::create_dir_all(folder).map_err(|cause| failed("create", folder, &cause))?;
        }
        Ok(storage)
    }

    /// Everything that was stored.
    pub(super) fn load(&self) -> Result<(Vec<StoredService>, Vec<StoredCheck>), Error> {
        let services = load(&self.services, |service: &StoredService| service.id().clone())?;
        let checks = load(&self.checks, |check: &StoredCheck| check.id().clone())?;
        Ok((services, checks))
    }

    /// Writes and removes; on return it is durable. On an error part of it may be.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), Error> {
        for service in &batch.services {
            replace(&self.services, &service.row.id, &StoredService::from(service))?;
        }
        for check in &batch.checks {
            replace(&self.checks, &check.row.id, &StoredCheck::new(check))?;
        }
        batch.removed_checks.iter().try_for_each(|id| remove(&self.checks, id))?;
        batch.removed_services.iter().try_for_each(|id| remove(&self.services, id))?;
        let touched = [
            (&self.services, batch.services.len() + batch.removed_services.len()),
            (&self.checks, batch.checks.len() + batch.removed_checks.len()),
        ];
        for (folder, _) in touched.iter().filter(|(_, files)| *files > 0) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|cause| failed("flush", folder, &cause))?;
        }
        Ok(())
    }
}

fn path(folder: &Path, id: &str) -> PathBuf {
    let digest: String = Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join(digest).with_extension(SUFFIX)
}

fn load<T: DeserializeOwned>(folder: &Path, id: impl Fn(&T) -> Str) -> Result<Vec<T>, Error> {
    let entries = fs::read_dir(folder).map_err(|cause| failed("read", folder, &cause))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(|cause| failed("read", folder, &cause))?.path();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some(SUFFIX) => {}
            Some(UNFINISHED) => {
                // Left by a stop in the middle of a write that was never acknowledged.
                let _ = fs::remove_file(&file);
                continue;
            }
            _ => continue,
        }
        let bytes = fs::read(&file).map_err(|cause| failed("read", &file, &cause))?;
        match serde_json::from_slice::<T>(&bytes) {
            Ok(stored) if path(folder, &id(&stored)) == file => found.push(stored),
            Ok(stored) => set_aside(&file, &format!("it belongs to `{}`, after which it is not named", id(&stored))),
            Err(cause) => set_aside(&file, &cause.to_string()),
        }
    }
    Ok(found)
}

fn replace(folder: &Path, id: &str, content: &impl Serialize) -> Result<(), Error> {
    let place = path(folder, id);
    let beside = place.with_extension(UNFINISHED);
    let write = || -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(content)?;
        let mut file = create_private(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &place)
    };
    write().map_err(|cause| failed("write", &place, &cause))
}

/// Creates a file that only this user can read: it may hold a token.
fn create_private(file: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(file)
}

fn remove(folder: &Path, id: &str) -> Result<(), Error> {
    let place = path(folder, id);
    match fs::remove_file(&place) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", &place, &cause)),
        _ => Ok(()),
    }
}

fn set_aside(file: &Path, why: &str) {
    let aside = file.with_extension(BROKEN);
    match fs::rename(file, &aside) {
        Ok(()) => tracing::error!("registration in `{}` is not taken: {why}; the file is kept as `{}`", file.display(), aside.display()),
        Err(cause) => tracing::error!("registration in `{}` is not taken: {why}; it can't be renamed: {cause}", file.display()),
    }
}

fn failed(what: &str, path: &Path, cause: &io::Error) -> Error {
    let message = format!("can't {what} `{}`: {cause}; see that the data directory is writable and has room", path.display());
    Error::new(Reason::Internal, message).with("path", path.display())
}
