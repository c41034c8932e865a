//! ヘルプ: the list of topics of each side, and each topic's page.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Html;
use http::Method;

use super::{MEMBER, OFFICE, Topic};
use crate::app::App;
use crate::web::layout::{Layout, Side};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::principals::Anyone;
use crate::web::router::Routes;

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Anyone, _, _>(Method::GET, "/help", member_list)
        .allow::<Anyone, _, _>(Method::GET, "/help/{topic}", member_topic)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Anyone, _, _>(Method::GET, "/help", office_list)
        .allow::<Anyone, _, _>(Method::GET, "/help/{topic}", office_topic)
}

#[derive(Template)]
#[template(path = "help.html")]
struct ListPage {
    layout: Layout,
    member: bool,
    topics: &'static [Topic],
}

#[derive(Template)]
#[template(path = "help_topic.html")]
struct TopicPage {
    layout: Layout,
    topic: &'static Topic,
}

/// `GET /help`
async fn member_list(_: Anyone, State(app): State<App>) -> Result<Html<String>, PageError> {
    list(&app, Side::Member)
}

/// `GET /help`
async fn office_list(_: Anyone, State(app): State<App>) -> Result<Html<String>, PageError> {
    list(&app, Side::Office)
}

/// `GET /help/{topic}`
async fn member_topic(
    _: Anyone,
    State(app): State<App>,
    Path(code): Path<String>,
) -> Result<Html<String>, PageError> {
    topic(&app, Side::Member, &code)
}

/// `GET /help/{topic}`
async fn office_topic(
    _: Anyone,
    State(app): State<App>,
    Path(code): Path<String>,
) -> Result<Html<String>, PageError> {
    topic(&app, Side::Office, &code)
}

fn topics(side: Side) -> &'static [Topic] {
    match side {
        Side::Member => MEMBER,
        Side::Office => OFFICE,
    }
}

fn list(app: &App, side: Side) -> Result<Html<String>, PageError> {
    page(&ListPage {
        layout: Layout::stranger(app, side),
        member: side == Side::Member,
        topics: topics(side),
    })
}

fn topic(app: &App, side: Side, code: &str) -> Result<Html<String>, PageError> {
    let topic = topics(side).iter().find(|topic| topic.code == code);
    page(&TopicPage {
        layout: Layout::stranger(app, side),
        topic: topic.ok_or(PageError::NotFound)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::World;

    #[tokio::test]
    async fn every_topic_is_reached_from_the_list_and_the_list_from_every_page() {
        let world = World::new().await;
        for (browser, topics) in [(&world.alice, MEMBER), (&world.sato, OFFICE)] {
            let (status, list) = browser.get("/help").await;
            assert_eq!(status, 200);
            for topic in topics {
                let path = format!("/help/{}", topic.code);
                assert!(list.contains(&path), "{path}");
                let (status, page) = browser.get(&path).await;
                assert_eq!(status, 200);
                assert!(page.contains(topic.title) && page.contains("<ol"));
            }
            for path in ["/", "/history", "/no-such-page", "/help/no-such-topic"] {
                let (_, page) = browser.get(path).await;
                assert!(page.is_empty() || page.contains("href=\"/help\""), "{path}");
            }
        }
    }

    #[test]
    fn codes_are_unique_and_no_topic_is_empty() {
        for topics in [MEMBER, OFFICE] {
            let mut codes: Vec<&str> = topics.iter().map(|topic| topic.code).collect();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), topics.len());
            assert!(topics.iter().all(|topic| !topic.steps.is_empty()));
        }
    }
}
