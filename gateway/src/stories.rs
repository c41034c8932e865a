//! Stories over real TLS sockets: the agent API, the relay and the feed between real
//! clients and a rehearsed portal, with a channel where the data path would be.
//!
//! Certificates are made for each story; ports are the system's choice.

mod at_the_door;
mod authorities;
mod following_the_portal;
mod gateway;
mod over_tls;
mod portal;
mod relaying;
mod the_whole_gateway;
mod what_is_logged;
