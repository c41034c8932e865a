//! What every handler and worker has at hand.

use std::ops::Deref;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::keys::MasterKey;
use crate::page_images::PageImages;
use crate::vault::Vault;

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
    /// What the fund configured.
    pub config: Config,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
