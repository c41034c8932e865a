//! How many pages a PDF has, counted on the objects that the scan has read.
//!
//! Where an object was written several times, the last counts, as it does for readers of a
//! file whose tables are right.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Dict, Value};

/// How many objects may be part of the page tree.
const NODE_LIMIT: usize = 100_000;

/// What the scan has seen of the page tree.
#[derive(Debug, Default)]
pub(super) struct PageTree {
    root: Option<i64>,
    catalogs: BTreeMap<i64, i64>,
    branches: BTreeMap<i64, Vec<i64>>,
    leaves: BTreeSet<i64>,
}

impl PageTree {
    /// Notes a trailer, or the dictionary of a cross-reference stream.
    pub(super) fn see_trailer(&mut self, dict: &Dict<'_>) {
        if let Some(Value::Ref(root)) = dict.last(b"Root") {
            self.root = Some(*root);
        }
    }

    /// Notes the object `number`.
    pub(super) fn see_object(&mut self, number: i64, dict: &Dict<'_>) {
        self.leaves.remove(&number);
        self.branches.remove(&number);
        if let Some(Value::Ref(pages)) = dict.last(b"Pages") {
            self.catalogs.insert(number, *pages);
        }
        if let Some(Value::Array(kids)) = dict.last(b"Kids") {
            let kids = kids.iter().filter_map(|kid| match kid {
                Value::Ref(number) => Some(*number),
                _ => None,
            });
            self.branches.insert(number, kids.collect());
        } else if dict.names(b"Type", &[b"Page"]) {
            self.leaves.insert(number);
        }
    }

    /// The pages under the catalog; if the tree does not lead to any, those that there are.
    pub(super) fn count(&self) -> usize {
        let top = self.root.and_then(|root| self.catalogs.get(&root));
        let mut open: Vec<i64> = top.copied().into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut pages = 0;
        while let Some(number) = open.pop() {
            if seen.len() == NODE_LIMIT || !seen.insert(number) {
                continue;
            }
            match self.branches.get(&number) {
                Some(kids) => open.extend(kids),
                None => pages += usize::from(self.leaves.contains(&number)),
            }
        }
        match pages {
            0 if self.root.is_some() => self.leaves.len(),
            pages => pages,
        }
    }
}
