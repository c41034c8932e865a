//! What every handler and worker has at hand.

use std::ops::Deref;
use std::sync::Arc;

use crate::authority::{Authorities, AuthorityError};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::keys::MasterKey;
use crate::signals::Signals;

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
    /// What the fund configured.
    pub config: Config,
    /// The fund's certificate authorities.
    pub authorities: Authorities,
    /// Word inside this process that sessions changed, or that it is time to stop.
    pub signals: Signals,
}

impl App {
    /// Puts the parts together; makes the certificate authorities at the first start. The
    /// database is migrated already.
    pub async fn start(
        db: Db,
        clock: Clock,
        keys: MasterKey,
        config: Config,
    ) -> Result<Self, AuthorityError> {
        let now = clock.now();
        let authorities = Authorities::load_or_make(&db, &keys, &config.fund_name, now).await?;
        Ok(Self(Arc::new(Parts {
            db,
            clock,
            keys,
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
