//! What a mover is given beside its task: where the store is, how to get in, and how stores are opened.

use std::path::PathBuf;
use std::sync::Arc;

use api::ledger::Thresholds;
use api::mover::Report;
use repository::Clock;
use repository_kopia::{OpenOptions, Password};
use storage::layer::meter::Meter;
use storage::{Address, Class, Credentials, Layout, Storage};

use crate::report::{chain, class_of};

/// Opens a store, with whatever layers the program wants over it.
pub type OpenStore =
    Arc<dyn Fn(&Address, Layout, &Credentials) -> Result<Arc<dyn Storage>, storage::Error> + Send + Sync>;

/// Everything around a task.
#[derive(Clone)]
pub struct Environment {
    /// Where the store is; see [`Place`](crate::Place) for how it and the task's layout go together.
    pub address: Address,
    /// What the store asks for.
    pub credentials: Credentials,
    /// The repository's password.
    pub password: Password,
    /// Whether whoever configured this says that an empty directory at this address is the right one. A directory that
    /// nobody vouches for may be a mount point without its file system, and no repository is created in it. Buckets need
    /// no such word: one that is not there answers so.
    pub is_declared: bool,
    /// Opens stores.
    pub open_store: OpenStore,
    /// Counts the calls that reach the store; `open_store` puts it into its layers.
    pub calls: Arc<Meter>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// Below which share of the last good snapshot a new one is quarantined.
    pub thresholds: Thresholds,
    /// Where a large index is kept from run to run.
    pub index: OpenOptions,
    /// Where this machine keeps what makes the next backup of the same volume quicker.
    pub cache_directory: Option<PathBuf>,
}

/// The variables do not say where to go.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No variable names a repository.
    #[error("no repository is named: neither KOPIA_S3_BUCKET nor KOPIA_REPOSITORY is set")]
    NoRepository,
    /// No password.
    #[error("KOPIA_PASSWORD is not set")]
    NoPassword,
    /// The repository's address makes no sense.
    #[error("read the repository's address")]
    Address(#[source] storage::Error),
    /// Something is no percentage.
    #[error("{name} is {value:?}, not a number from 0 to 100")]
    Percent {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl EnvironmentError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::NoRepository | Self::NoPassword | Self::Percent { .. } => Class::Blocked,
            Self::Address(error) => error.class(),
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRepository | Self::NoPassword => Some("add the missing key to the repository's Secret"),
            Self::Address(error) => error.hint(),
            Self::Percent { .. } => Some("mend the threshold"),
        }
    }

    /// The report of a mover that ends here.
    pub fn report(&self) -> Report {
        Report::failed(class_of(self.class()), chain(self), self.hint().unwrap_or_default())
    }
}

impl Environment {
    /// Takes address, credentials and password from the keys of a Kopia Secret, by VolSync's and the seeds' names.
    ///
    /// Beside them: `PERENNIAL_STORE_DECLARED=true` for [`is_declared`](Self::is_declared),
    /// `PERENNIAL_GUARD_FILES_PERCENT` and `PERENNIAL_GUARD_BYTES_PERCENT` for the thresholds. An empty variable is not
    /// set.
    ///
    /// # Errors
    /// When address or password are missing, or a variable makes no sense.
    pub fn from_env(
        variable: &dyn Fn(&str) -> Option<String>,
        open_store: OpenStore,
        calls: Arc<Meter>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EnvironmentError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let percent = |name: &'static str, default: u8| match set(name) {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(percent @ 0..=100) => Ok(percent),
                Ok(_) | Err(_) => Err(EnvironmentError::Percent { name, value }),
            },
        };
        let default = Thresholds::default();
        Ok(Self {
            address: Address::from_env(variable)
                .map_err(EnvironmentError::Address)?
                .ok_or(EnvironmentError::NoRepository)?,
            credentials: Credentials::from_env(variable),
            password: Password::new(set("KOPIA_PASSWORD").ok_or(EnvironmentError::NoPassword)?),
            is_declared: set("PERENNIAL_STORE_DECLARED").as_deref() == Some("true"),
            open_store,
            calls,
            clock,
            thresholds: Thresholds {
                files_percent: percent("PERENNIAL_GUARD_FILES_PERCENT", default.files_percent)?,
                bytes_percent: percent("PERENNIAL_GUARD_BYTES_PERCENT", default.bytes_percent)?,
            },
            index: OpenOptions::default(),
            cache_directory: None,
        })
    }

    pub(crate) fn open(&self, address: &Address, layout: Layout) -> Result<Arc<dyn Storage>, storage::Error> {
        (self.open_store)(address, layout, &self.credentials)
    }
}

/// Holds secrets and closures: only the address is shown.
impl std::fmt::Debug for Environment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Environment").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use repository::SystemClock;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let open: OpenStore = Arc::new(|address, layout, credentials| address.open(layout, credentials));
        Environment::from_env(&variable, open, Arc::default(), Arc::new(SystemClock))
    }

    #[track_caller]
    fn refused(variables: &[(&str, &str)], said: &str) {
        let report = read(variables).unwrap_err().report();
        let api::mover::Outcome::Failed { class, reason, .. } = report.outcome else { panic!("{report:?}") };
        assert_eq!((class, reason.as_str()), (api::exit::Class::Blocked, said));
    }

    #[test]
    fn the_seven_keys_of_a_generated_secret() {
        let environment = read(&[
            ("KOPIA_PASSWORD", "pw"),
            ("KOPIA_S3_BUCKET", "volsync-backup"),
            ("KOPIA_S3_ENDPOINT", "192.168.10.133:30292"),
            ("KOPIA_S3_PREFIX", "karakeep/data-pvc"),
            ("KOPIA_S3_DISABLE_TLS", "true"),
            ("KOPIA_S3_ACCESS_KEY_ID", "key"),
            ("KOPIA_S3_SECRET_ACCESS_KEY", "secret"),
        ])
        .unwrap();
        let address = "s3://volsync-backup/karakeep/data-pvc/?endpoint=http://192.168.10.133:30292";
        assert_eq!(environment.address.to_string(), address);
        assert!(environment.credentials.s3.is_some());
        assert_eq!(environment.thresholds, Thresholds::default());
        assert!(!environment.is_declared);
        assert!(!format!("{environment:?}").contains("secret"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let repository = ("KOPIA_REPOSITORY", "filesystem:///repository");
        refused(
            &[("KOPIA_PASSWORD", "pw")],
            "no repository is named: neither KOPIA_S3_BUCKET nor KOPIA_REPOSITORY is set",
        );
        refused(&[repository, ("KOPIA_PASSWORD", "")], "KOPIA_PASSWORD is not set");
        refused(
            &[repository, ("KOPIA_PASSWORD", "pw"), ("PERENNIAL_GUARD_FILES_PERCENT", "101")],
            "PERENNIAL_GUARD_FILES_PERCENT is \"101\", not a number from 0 to 100",
        );
    }
}
