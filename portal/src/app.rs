//! What every handler and worker has at hand.

use std::ops::Deref;
use std::sync::Arc;

use crate::authority::{Authorities, AuthorityError};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::keys::MasterKey;
use crate::page_images::PageImages;
use crate::reports::months::KeptMonths;
use crate::signals::Signals;
use crate::vault::{Vault, VaultError};

/// The portal's shared state; cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// The parts behind [`App`].
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The one door to the clock.
    pub clock: Clock,
    /// The root of all keys.
    pub keys: MasterKey,
    /// Where documents lie sealed.
    pub vault: Vault,
    /// Pictures of pages, a few at a time.
    pub page_images: PageImages,
    /// Figures of months that are over.
    pub months: KeptMonths,
    /// What the fund configured.
    pub config: Config,
    /// The fund's certificate authorities.
    pub authorities: Authorities,
    /// Word inside this process that sessions changed, or that it is time to stop.
    pub signals: Signals,
}

/// The portal cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate authorities cannot be had.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The folder for documents cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl App {
    /// Puts the parts together; makes the certificate authorities at the first start. The
    /// database is migrated already.
    pub async fn start(
        db: Db,
        clock: Clock,
        keys: MasterKey,
        config: Config,
    ) -> Result<Self, StartError> {
        let now = clock.now();
        let authorities = Authorities::load_or_make(&db, &keys, &config.fund_name, now).await?;
        let vault = Vault::in_folder(&config.documents_dir)?;
        Ok(Self(Arc::new(Parts {
            db,
            clock,
            keys,
            vault,
            page_images: PageImages::default(),
            months: KeptMonths::default(),
            config,
            authorities,
            signals: Signals::default(),
        })))
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
