//! Long lists in pages: which page, how many, and links that keep the search.

/// The row of links under a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// Which page this is, from 1.
    pub page: u32,
    /// How many there are, at least 1.
    pub pages: u32,
    /// How many lines all pages have.
    pub total: u64,
    /// The page before, with the search.
    pub previous: Option<String>,
    /// The page after.
    pub next: Option<String>,
}

impl Paging {
    /// Links to the neighbours of `page` at `path`, with the `search` fields that are not empty.
    pub fn new(path: &str, search: &[(&str, &str)], page: u32, pages: u32, total: u64) -> Self {
        let link = |page: u32| {
            let page = page.to_string();
            let mut fields: Vec<(&str, &str)> = search
                .iter()
                .copied()
                .filter(|(_, value)| !value.is_empty())
                .collect();
            fields.push(("page", &page));
            let query = serde_urlencoded::to_string(&fields).unwrap_or_default();
            format!("{path}?{query}")
        };
        Self {
            page,
            pages,
            total,
            previous: (page > 1).then(|| link(page - 1)),
            next: (page < pages).then(|| link(page + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_the_search_and_stop_at_the_ends() {
        let paging = Paging::new("/filings", &[("text", "届 1"), ("state", "")], 1, 2, 21);
        assert_eq!(paging.previous, None);
        assert_eq!(
            paging.next.as_deref(),
            Some("/filings?text=%E5%B1%8A+1&page=2")
        );
    }
}
