//! `portal routes`: every way into the pages, for whoever audits or watches over them.

use portal::app::App;
use portal::web;
use portal::web::layout::Side;

/// Prints the route table of both sides.
pub(super) fn list(app: App, json: bool) {
    let routes = web::route_table(app);
    let side = |side| match side {
        Side::Member => "member",
        Side::Office => "office",
    };
    if json {
        let rows = routes.iter().map(|(at, route)| {
            serde_json::json!({
                "side": side(*at),
                "method": route.method.as_str(),
                "path": route.path,
                "allowed": route.allowed,
            })
        });
        println!("{}", rows.collect::<serde_json::Value>());
        return;
    }
    for (at, route) in &routes {
        let (side, method) = (side(*at), route.method.as_str());
        println!("{side}\t{method}\t{}\t{}", route.path, route.allowed);
    }
}
