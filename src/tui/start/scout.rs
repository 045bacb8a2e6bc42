//! Looks around for models, on threads: a disk that hangs holds up none but the one who reads it.
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;

use super::item::{DEMO, Item, Section};
use super::update::News;
use crate::core::Cancel;
use crate::core::name::natural;
use crate::format::find::{self, Bounds, Found};
use crate::format::{profiles, state};
use crate::session::recent::{Entry, Recent, ago};
use crate::tui::event::Waker;

/// Who looks around, and whom it tells.
#[derive(Clone)]
pub struct Scout {
    /// Where news go.
    pub news: Sender<News>,
    /// Told that there are some.
    pub waker: Waker,
    /// Stops it.
    pub cancel: Cancel,
}

/// Says that a section is complete, whatever way its thread ends.
struct End(Scout, Section);

impl Drop for End {
    fn drop(&mut self) {
        self.0.tell(News::Ended(self.1));
    }
}

impl Scout {
    fn tell(&self, news: News) {
        // Nobody who listens any more is nobody to tell.
        let _ = self.news.send(news);
        self.waker.wake();
    }
    fn go(&self, work: impl FnOnce(&Self) + Send + 'static) {
        let scout = self.clone();
        let spawned = std::thread::Builder::new().name("scout".into()).spawn(move || work(&scout));
        if let Err(e) = spawned {
            log::error!("cannot look around: {e}");
        }
    }
    fn section(&self, section: Section, work: impl FnOnce(&Self) + Send + 'static) {
        let end = End(self.clone(), section);
        self.go(move |scout| {
            let _end = end;
            work(scout);
        });
    }

    /// Looks everywhere.
    pub fn look_around(&self) {
        self.section(Section::Recent, |scout| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let entries = Recent::parse(&state::read_recent()).entries;
            scout.tell(News::Items(entries.iter().map(|e| recent(e, now)).collect()));
            scout.tell(News::Profiles(profiles::list().unwrap_or_default()));
            // What lies on a disk that sleeps or is gone must not hold up the list itself.
            for entry in entries {
                if entry.model != DEMO && !scout.cancel.is_cancelled() && !find::is_there(&entry.model) {
                    scout.tell(News::Missing(entry.model));
                }
            }
        });
        self.section(Section::Here, |scout| {
            let (mut all, bounds) = (Vec::new(), Bounds::shallow(scout.cancel.clone()));
            find::below(std::path::Path::new("."), bounds, &mut |found| {
                let path = find::absolute(&found.label);
                all.push(Item { path, ..item(Section::Here, found) });
            });
            all.sort_by(|a, b| natural(&a.name, &b.name));
            scout.tell(News::Items(all));
        });
        self.section(Section::Cache, |scout| {
            let bounds = Bounds::shallow(scout.cancel.clone());
            find::cached(bounds, &mut |found| scout.tell(News::Items(vec![item(Section::Cache, found)])));
        });
    }
    /// Lists a folder.
    pub fn list(&self, folder: String) {
        self.go(move |scout| {
            let listing = find::list(&folder, Bounds::shallow(scout.cancel.clone()));
            scout.tell(News::Listed(folder, listing));
        });
    }
}

fn item(section: Section, found: Found) -> Item {
    let name = if found.label == "." { "this folder".to_owned() } else { found.label.clone() };
    Item { format: found.kind.name().into(), bytes: Some(found.bytes), ..Item::new(section, found.label, name) }
}

fn recent(entry: &Entry, now: u64) -> Item {
    let place = if entry.model == DEMO { "a tiny model to try things on".into() } else { short(&entry.model) };
    Item {
        component: entry.component.clone(),
        place,
        format: entry.format.clone(),
        bytes: Some(entry.bytes),
        when: ago(now, entry.opened),
        last: entry.profile.clone(),
        ..Item::new(Section::Recent, &entry.model, &entry.title)
    }
}

/// A path with `~` for the person's own folder.
fn short(path: &str) -> String {
    let home = find::home().and_then(|h| h.to_str().map(str::to_owned)).filter(|h| h.len() > 1);
    let rest = home.and_then(|home| path.strip_prefix(home.trim_end_matches('/')).map(str::to_owned));
    match rest {
        Some(rest) if rest.starts_with('/') => format!("~{rest}"),
        _ => path.to_owned(),
    }
}
