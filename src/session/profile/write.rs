//! Carries what was changed into a profile's document and leaves everything else alone.
use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use super::{PresetChoice, Said, list};
use crate::core::name;
use crate::core::options::{ComfyOptions, GgufOptions, Names, NunchakuOptions};
use crate::core::recipe::group_size;
use crate::core::rules::Pattern;
use crate::core::{Family, Patch, Rule, ScaleSearch};

fn nunchaku(table: &mut dyn TableLike, was: &NunchakuOptions, is: &NunchakuOptions) {
    for (key, old, new) in [("lite", was.lite, is.lite), ("extra_metadata", was.extra_metadata, is.extra_metadata)] {
        if old != new {
            set(table, key, new);
        }
    }
    for (key, old, new) in [
        ("smooth_from", &was.smooth_from, &is.smooth_from),
        ("config_yaml", &was.config_yaml, &is.config_yaml),
        ("model_path", &was.model_path, &is.model_path),
    ] {
        if old != new {
            set_or_remove(table, key, new.as_deref());
        }
    }
}

/// A new profile, with nothing but its target.
pub(super) fn template(target: Family) -> DocumentMut {
    let text = format!(
        "# A mixdown profile: which tensors are quantized, and how. The last rule that matches wins, field by field.\n\
         # Written by mixdown {}; `mixdown convert MODEL --profile THIS-FILE -o OUT` uses it.\n\
         target = \"{target}\"\n",
        env!("CARGO_PKG_VERSION")
    );
    text.parse().unwrap_or_default()
}

/// Makes a document that says `old` say `new`.
pub(super) fn update(document: &mut DocumentMut, old: &Said, new: &Said) {
    let root = document.as_table_mut();
    let above = above(root);
    let (was, is) = (&old.settings, &new.settings);
    if was.target != is.target || !root.contains_key("target") {
        set(root, "target", is.target.name());
    }
    if old.architecture != new.architecture {
        set_or_remove(root, "architecture", new.architecture.as_deref());
    }
    if (&old.preset, &old.off) != (&new.preset, &new.off) {
        preset(root, (&old.preset, &old.off), (&new.preset, &new.off));
    }
    list(root, "exclude", &texts(&was.exclude), &texts(&is.exclude));
    list(root, "include", &texts(&was.include), &texts(&is.include));
    // What is not said is off; what was said is said again.
    for (key, old, new) in
        [("quant_conv", was.quant_conv, is.quant_conv), ("quant_embedding", was.quant_embedding, is.quant_embedding)]
    {
        if old != new {
            set(root, key, new);
        }
    }
    if was.names != is.names {
        set_or_remove(root, "names", is.names.map(Names::name));
    }
    if was.metadata_tensors != is.metadata_tensors {
        set_or_remove(root, "metadata_tensors", is.metadata_tensors);
    }
    if was.imatrix != is.imatrix {
        set_or_remove(root, "imatrix", is.imatrix.as_deref());
    }
    if was.gguf != is.gguf {
        let item = root.entry("gguf").or_insert_with(toml_edit::table);
        if let Some(table) = item.as_table_like_mut() {
            gguf(table, &was.gguf, &is.gguf);
        }
        if is.gguf == GgufOptions::default() {
            root.remove("gguf");
        }
    }
    if was.comfy != is.comfy {
        let item = root.entry("comfy").or_insert_with(toml_edit::table);
        if let Some(table) = item.as_table_like_mut() {
            if was.comfy.header != is.comfy.header {
                set(table, "quant_metadata", is.comfy.header);
            }
            if was.comfy.key_prefix != is.comfy.key_prefix {
                set_or_remove(table, "key_prefix", is.comfy.key_prefix.as_deref());
            }
        }
        if is.comfy == ComfyOptions::default() {
            root.remove("comfy");
        }
    }
    if was.nunchaku != is.nunchaku {
        let item = root.entry("nunchaku").or_insert_with(toml_edit::table);
        if let Some(table) = item.as_table_like_mut() {
            nunchaku(table, &was.nunchaku, &is.nunchaku);
        }
        if is.nunchaku == NunchakuOptions::default() {
            root.remove("nunchaku");
        }
    }
    if was.defaults != is.defaults {
        let item = root.entry("defaults").or_insert_with(toml_edit::table);
        patch(item, &was.defaults, &is.defaults);
    }
    rules(root, &was.rules, &is.rules);
    overrides(root, old, new);
    if let Some(above) = above {
        restore(root, above);
    }
}

fn gguf(table: &mut dyn TableLike, old: &GgufOptions, new: &GgufOptions) {
    for (key, old, new) in [
        ("pure", old.pure, new.pure),
        ("leave_output_tensor", old.leave_output, new.leave_output),
        ("allow_requantize", old.allow_requantize, new.allow_requantize),
        ("keep_split", old.keep_split, new.keep_split),
        ("embed_loss", old.embed_loss, new.embed_loss),
    ] {
        if old != new {
            set(table, key, new);
        }
    }
    for (key, old, new) in [
        ("output_tensor_type", &old.output_type, &new.output_type),
        ("token_embedding_type", &old.embedding_type, &new.embedding_type),
    ] {
        if old != new {
            set_or_remove(table, key, new.as_ref().map(|d| d.as_str()));
        }
    }
    list(table, "override_kv", &strings(&old.override_kv), &strings(&new.override_kv));
    for (key, old, new) in [("prune_layers", &old.prune_layers, &new.prune_layers), ("pre", &old.pre, &new.pre)] {
        if old != new {
            set_or_remove(table, key, new.as_deref());
        }
    }
}

fn preset(root: &mut Table, (old, old_off): (&PresetChoice, &[String]), (choice, off): (&PresetChoice, &[String])) {
    let as_table = root.get("preset").is_some_and(Item::is_table_like);
    match choice {
        PresetChoice::None => {
            clear(root, "preset", as_table);
            set(root, "preset", false);
        }
        PresetChoice::Automatic if off.is_empty() => drop(root.remove("preset")),
        PresetChoice::Named(name) if off.is_empty() && !as_table => {
            set(root, "preset", name.as_str());
        }
        _ => {
            clear(root, "preset", !as_table);
            let item = root.entry("preset").or_insert_with(toml_edit::table);
            if let Some(table) = item.as_table_like_mut() {
                let name = match choice {
                    PresetChoice::Named(name) => Some(name.as_str()),
                    _ => None,
                };
                if !as_table || old != choice {
                    set_or_remove(table, "name", name);
                }
                list(table, "off", &strings(old_off), &strings(off));
            }
        }
    }
}

/// Removes an entry whose form does not fit.
fn clear(root: &mut Table, key: &str, unfit: bool) {
    if unfit {
        root.remove(key);
    }
}

fn strings(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

fn texts(patterns: &[Pattern]) -> Vec<&str> {
    patterns.iter().map(Pattern::as_str).collect()
}

fn list(table: &mut dyn TableLike, key: &str, old: &[&str], new: &[&str]) {
    if old != new {
        list::update(table, key, new);
    }
}

/// Field by field.
fn patch(item: &mut Item, old: &Patch, new: &Patch) {
    if let Some(table) = item.as_inline_table_mut() {
        // The space before the closing brace belongs to the last value, whichever that is.
        let end = last(table).and_then(|v| {
            let end = v.decor().suffix()?.as_str()?.to_owned();
            v.decor_mut().set_suffix("");
            Some(end)
        });
        patch_in(table, old, new);
        if let (Some(end), Some(v)) = (end, last(table)) {
            v.decor_mut().set_suffix(end);
        }
    } else if let Some(table) = item.as_table_like_mut() {
        patch_in(table, old, new);
    }
}

fn last(table: &mut InlineTable) -> Option<&mut Value> {
    table.iter_mut().last().map(|(_, v)| v)
}

fn patch_in(table: &mut dyn TableLike, old: &Patch, new: &Patch) {
    if old.keep != new.keep {
        set_or_remove(table, "keep", new.keep);
    }
    if old.dtype != new.dtype {
        set_or_remove(table, "dtype", new.dtype.as_ref().map(|d| d.as_str()));
    }
    if old.group_size != new.group_size {
        let size = new.group_size.map(|n| match n {
            group_size::TENSOR..=group_size::AUTO => Value::from(group_size::name(n)),
            n => Value::from(n),
        });
        set_or_remove(table, "group_size", size);
    }
    if old.svd_rank != new.svd_rank {
        set_or_remove(table, "svd_rank", new.svd_rank.map(i64::from));
    }
    if old.svd_steps != new.svd_steps {
        set_or_remove(table, "svd_steps", new.svd_steps.map(i64::from));
    }
    if old.hadamard != new.hadamard {
        let size = new.hadamard.map(|n| if n == 0 { Value::from(false) } else { Value::from(i64::from(n)) });
        set_or_remove(table, "hadamard", size);
    }
    if old.codebook != new.codebook {
        set_or_remove(table, "codebook", new.codebook);
    }
    if old.scale_search != new.scale_search {
        set_or_remove(table, "scale_search", new.scale_search.map(ScaleSearch::name));
    }
}

fn rules(root: &mut Table, old: &[Rule], new: &[Rule]) {
    if old == new {
        return;
    }
    if new.is_empty() {
        root.remove("rule");
        return;
    }
    let item = root.entry("rule").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if item.is_value() {
        // `rule = [{…}]` becomes `[[rule]]`: the space before `=` must not end up in the header.
        if let Some(mut key) = root.key_mut("rule") {
            key.leaf_decor_mut().set_suffix("");
        }
    }
    let Some(item) = root.get_mut("rule") else {
        return;
    };
    let Ok(tables) = std::mem::take(item).into_array_of_tables() else {
        return;
    };
    let mut tables: Vec<Option<Table>> = tables.into_iter().map(Some).collect();
    let mut places: Vec<isize> = tables.iter().flatten().filter_map(Table::position).collect();
    places.sort_unstable();
    let mut list = ArrayOfTables::new();
    for (i, (rule, from)) in new.iter().zip(origins(old, new)).enumerate() {
        let was = from.and_then(|j| old.get(j));
        let mut table = from.and_then(|j| tables.get_mut(j)?.take()).unwrap_or_default();
        rule_in(&mut table, was, rule);
        // Tables are written by their places; the rules share those they had, in their new order.
        table.set_position(places.get(i).or(places.last()).copied());
        list.push(table);
    }
    *item = Item::ArrayOfTables(list);
}

fn rule_in(table: &mut Table, old: Option<&Rule>, new: &Rule) {
    if old.is_none_or(|o| o.pattern != new.pattern) {
        set(table, "pattern", new.pattern.as_str());
    }
    let nothing = Patch::default();
    patch_in(table, old.map_or(&nothing, |o| &o.patch), &new.patch);
    if old.map_or(&None, |o| &o.reason) != &new.reason {
        set_or_remove(table, "reason", new.reason.as_deref());
    }
    if old.is_none_or(|o| o.enabled) != new.enabled {
        set_or_remove(table, "enabled", (!new.enabled).then_some(false));
    }
}

/// For every new rule the old one it came from: one that is equal, else one with its pattern, else the one in its
/// place if that is left over.
fn origins(old: &[Rule], new: &[Rule]) -> Vec<Option<usize>> {
    let mut from: Vec<Option<usize>> = vec![None; new.len()];
    let mut free = vec![true; old.len()];
    let tests: [fn(&Rule, &Rule) -> bool; 2] = [|a, b| a == b, |a, b| a.pattern == b.pattern];
    for test in tests {
        for (rule, from) in new.iter().zip(&mut from).filter(|(_, f)| f.is_none()) {
            let found = old.iter().zip(&mut free).enumerate().find(|(_, (o, free))| **free && test(o, rule));
            if let Some((j, (_, free))) = found {
                (*from, *free) = (Some(j), false);
            }
        }
    }
    // A changed pattern is still the same rule when nothing was added or taken away.
    if old.len() == new.len() {
        for (i, (from, free)) in from.iter_mut().zip(free).enumerate() {
            if from.is_none() && free {
                *from = Some(i);
            }
        }
    }
    from
}

fn overrides(root: &mut Table, old: &Said, new: &Said) {
    let (was, is) = (&old.settings.overrides, &new.settings.overrides);
    if was == is {
        return;
    }
    let item = root.entry("tensor").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    // What stands inside braces or in a dotted key can hold only the like.
    let inline = item.as_table().is_none_or(Table::is_dotted);
    let Some(tensors) = item.as_table_like_mut() else {
        return;
    };
    for gone in was.keys().filter(|n| !is.contains_key(*n)) {
        tensors.remove(gone);
    }
    let nothing = Patch::default();
    let mut names: Vec<&String> = is.keys().collect();
    names.sort_by(|a, b| name::natural(a, b));
    for n in names {
        let before = was.get(n);
        if before.is_none() {
            let empty = match inline {
                true => value(InlineTable::new()),
                false => toml_edit::table(),
            };
            tensors.insert(n, empty);
        }
        if let (Some(item), Some(now)) = (tensors.get_mut(n), is.get(n)) {
            patch(item, before.unwrap_or(&nothing), now);
        }
    }
    if is.is_empty() {
        root.remove("tensor");
    }
}

/// Sets a value; the comments around it stay.
fn set(table: &mut dyn TableLike, key: &str, new: impl Into<Value>) {
    let mut new = new.into();
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => {
            table.insert(key, Item::Value(new));
        }
    }
}

fn set_or_remove(table: &mut dyn TableLike, key: &str, new: Option<impl Into<Value>>) {
    match new {
        Some(new) => set(table, key, new),
        None => {
            table.remove(key);
        }
    }
}

/// What stands above the first entry of the root speaks of the whole file.
fn above(root: &Table) -> Option<(String, String)> {
    let (key, _) = root.iter().find(|(_, item)| item.is_value())?;
    let prefix = root.key(key)?.leaf_decor().prefix()?.as_str()?;
    Some((key.to_owned(), prefix.to_owned()))
}

/// Puts it above what comes first now, when the entry it stood above is gone.
fn restore(root: &mut Table, (key, text): (String, String)) {
    if root.get(&key).is_some_and(Item::is_value) {
        return;
    }
    let own = above(root);
    let first = root.iter().find(|(_, item)| item.is_value());
    let Some(first) = first.map(|(k, _)| k.to_owned()) else {
        return;
    };
    if let Some(mut key) = root.key_mut(&first) {
        let own = own.map(|(_, text)| text).unwrap_or_default();
        key.leaf_decor_mut().set_prefix(text + &own);
    }
}
