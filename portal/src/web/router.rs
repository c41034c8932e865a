//! Routes that cannot be added without saying who may use them.
//!
//! [`Routes::allow`] is the only way to add a route: it names the principal, puts the
//! principal's extractor in front of the handler, and writes the route into a table that a
//! test walks. Forgetting the principal does not compile; a guard that lets strangers
//! through fails the walk.
//!
//! Recipe for a feature: write `pub fn member_routes(routes: Routes) -> Routes` in
//! `feature/pages.rs`, chain `.allow::<Member, _, _>(Method::GET, "/things", list)` in it,
//! and add the function to the chain in `web::member_router` (or `office_router`).

use std::fmt;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::handler::Handler;
use axum::middleware::{from_extractor_with_state, from_fn_with_state};
use axum::routing::{MethodFilter, on};
use http::Method;

use super::page_error::PageError;
use crate::app::App;
use crate::step_up;

/// Who asks. Implementations have private fields: only their extractor makes one.
pub trait Principal: FromRequestParts<App, Rejection = PageError> + Send + 'static {
    /// The word for the route table.
    const NAME: &'static str;
    /// Whether the second factor must have been shown just now: see `step_up`.
    const IS_FRESH: bool = false;
}

/// One line of the route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{parameters}`.
    pub path: &'static str,
    /// [`Principal::NAME`] of who may.
    pub allowed: &'static str,
}

/// Routes under construction, with the table of who may use them.
pub struct Routes {
    app: App,
    router: Router<App>,
    table: Vec<Route>,
}

impl Routes {
    /// No routes yet.
    pub fn new(app: App) -> Self {
        Self {
            app,
            router: Router::new(),
            table: Vec::new(),
        }
    }

    /// Adds a route for `P` and nobody else.
    #[must_use]
    pub fn allow<P: Principal, H, T>(
        mut self,
        method: Method,
        path: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("plain HTTP method");
        let guard = from_extractor_with_state::<P, App>(self.app.clone());
        let mut guarded = on(filter, handler).route_layer(guard);
        if P::IS_FRESH {
            let keep = from_fn_with_state(self.app.clone(), step_up::keep_form);
            guarded = guarded.route_layer(keep);
        }
        self.router = self.router.route(path, guarded);
        self.table.push(Route {
            method,
            path,
            allowed: P::NAME,
        });
        self
    }

    /// Adds a feature's routes.
    #[must_use]
    pub fn with(self, feature: fn(Self) -> Self) -> Self {
        feature(self)
    }

    /// The router and its table.
    pub fn finish(self) -> (Router<App>, Vec<Route>) {
        (self.router, self.table)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.table).finish()
    }
}
