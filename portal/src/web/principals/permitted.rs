//! Principals that stand on another one and one thing more: a permission of a member, a role
//! of staff. Who lacks it is answered like one who asks for a page that does not exist.

use std::ops::Deref;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{Member, Staff};
use crate::app::App;
use crate::permissions::Permission;
use crate::staff::StaffRole;
use crate::web::page_error::PageError;
use crate::web::router::Principal;

macro_rules! principal {
    ($(#[$doc:meta])* $name:ident($base:ident), $word:literal, $holds:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name($base);

        impl Deref for $name {
            type Target = $base;
            fn deref(&self) -> &$base {
                &self.0
            }
        }

        impl Principal for $name {
            const NAME: &'static str = $word;
        }

        impl FromRequestParts<App> for $name {
            type Rejection = PageError;
            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
                let base = $base::from_request_parts(parts, app).await?;
                let holds: fn(&$base) -> bool = $holds;
                if holds(&base) { Ok(Self(base)) } else { Err(PageError::NotFound) }
            }
        }
    };
}

principal!(
    /// A member who may hand filings in.
    Filer(Member),
    "filer",
    |member| member.may(Permission::File)
);

principal!(
    /// A member who may fetch notices.
    Fetcher(Member),
    "fetcher",
    |member| member.may(Permission::Fetch)
);

principal!(
    /// A member who may see all that the establishment sent and received.
    Historian(Member),
    "historian",
    |member| member.may(Permission::History)
);

principal!(
    /// A member who follows filings: everybody's with the permission for the history, else
    /// those that he handed in himself ([`Member::reach`]).
    Follower(Member),
    "follower",
    |member| member.may(Permission::File) || member.may(Permission::History)
);

principal!(
    /// Staff who release and decide in doubt (責任者).
    Supervisor(Staff),
    "supervisor",
    |staff| staff.role() == StaffRole::Supervisor
);

principal!(
    /// Staff who keep the accounts and the machines (システム管理者), and read no document.
    SystemAdministrator(Staff),
    "system administrator",
    |staff| staff.role() == StaffRole::SystemAdmin
);

principal!(
    /// Staff who read the audit log: supervisors, who answer for what was done, and system
    /// administrators, who answer for the machines.
    Auditor(Staff),
    "auditor",
    |staff| match staff.role() {
        StaffRole::Supervisor | StaffRole::SystemAdmin => true,
        StaffRole::Reviewer => false,
    }
);
