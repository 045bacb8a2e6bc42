//! There and back again: models made of the tables, and what else a file may hold.
use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// A UNet of so many resnets in each level, and transformer blocks in each of its attentions.
pub(super) fn unet(resnets: &[usize], depths: &[usize], label: bool) -> Vec<(String, Vec<u64>)> {
    let mut names = Vec::new();
    let mut layer = |name: String| names.extend([format!("{name}.weight"), format!("{name}.bias")]);
    ["conv_in", "time_embedding.linear_1", "time_embedding.linear_2", "conv_norm_out", "conv_out"]
        .iter()
        .for_each(|n| layer((*n).into()));
    if label {
        ["add_embedding.linear_1", "add_embedding.linear_2"].iter().for_each(|n| layer((*n).into()));
    }
    let mut block = |at: &str, i: usize, depth: usize| {
        for part in ["norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"] {
            layer(format!("{at}.resnets.{i}.{part}"));
        }
        if depth > 0 {
            ["norm", "proj_in", "proj_out"].iter().for_each(|part| layer(format!("{at}.attentions.{i}.{part}")));
        }
        for t in 0..depth {
            ["attn1.to_q", "attn2.to_k", "ff.net.0.proj"]
                .iter()
                .for_each(|part| layer(format!("{at}.attentions.{i}.transformer_blocks.{t}.{part}")));
        }
    };
    let last = resnets.len() - 1;
    for (level, (n, depth)) in resnets.iter().zip(depths).enumerate() {
        (0..*n).for_each(|i| block(&format!("down_blocks.{level}"), i, *depth));
        (0..=*n).for_each(|i| block(&format!("up_blocks.{}", last - level), i, *depth));
    }
    block("mid_block", 0, 1);
    block("mid_block", 1, 0);
    for level in 0..last {
        layer(format!("down_blocks.{level}.downsamplers.0.conv"));
        layer(format!("up_blocks.{level}.upsamplers.0.conv"));
    }
    names.into_iter().map(|name| (name, vec![2, 3])).collect()
}

/// The tensors of a family's tables in diffusers' layout, of so many blocks, without those of some lines. What tells the
/// layouts is needed.
fn model(rules: &[Rule], blocks: usize, width: u64, left_out: &[usize], needed: &[&str]) -> Vec<(String, Vec<u64>)> {
    let mut tensors = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let names = rule.parts.iter().chain([&rule.whole]).map(|name| name.replacen('*', "0", 1));
        let mark = names.into_iter().any(|name| needed.iter().any(|needed| needed.starts_with(&name)));
        let tells =
            |other: &Rule| matches!(other.way, Way::Either(_, told) if told == format!("{}.weight", rule.whole));
        if left_out.contains(&i) && !mark && !rules.iter().any(tells) {
            continue;
        }
        for number in 0..if rule.whole.contains('*') { blocks } else { 1 } {
            for (at, part) in rule.parts.iter().enumerate() {
                let last = number + 1 == blocks;
                // Of two alternatives the last block has the second, and not what tells the first.
                let told = |rule: &Rule| matches!(rule.way, Way::Either(mark, _) if mark == format!("{part}.weight"));
                let other = matches!(rule.way, Way::Either(..)) && (at == 1) != last;
                if other || (last && rules.iter().any(told)) {
                    continue;
                }
                let part = part.replacen('*', &number.to_string(), 1);
                let rows = match rule.way {
                    Way::Whole | Way::Either(..) => i as u64 % 3,
                    Way::Even => 3,
                    Way::Wide(wide) if at < wide => width,
                    Way::Wide(_) => 5,
                    Way::Swapped => 4,
                    Way::SwappedPair if last => 2 * width,
                    Way::SwappedPair => 6 * width,
                };
                if rule.layer {
                    tensors.push((format!("{part}.weight"), vec![rows, width]));
                    tensors.push((format!("{part}.bias"), vec![rows]));
                } else {
                    tensors.push((part, if rows == 0 { vec![] } else { vec![rows, 2, width] }));
                }
            }
        }
    }
    tensors
}

/// A tensor's shape, and where each of its rows comes from.
type Rows = BTreeMap<String, (Vec<u64>, Vec<(String, u64)>)>;

fn rows_of(shape: &[u64]) -> u64 {
    shape.first().copied().unwrap_or(1)
}

fn apply(mapped: &Mapped, from: &Rows, order: &[(String, Vec<u64>)]) -> Rows {
    let mut used: HashMap<usize, Vec<u64>> = HashMap::new();
    let mut out = Rows::new();
    for tensor in &mapped.tensors {
        let mut rows = Vec::new();
        let mut shape = order[tensor.pieces[0].source].1.clone();
        for piece in &tensor.pieces {
            let source = &from[&order[piece.source].0];
            assert_eq!(source.0.get(1..), shape.get(1..), "{}", tensor.name);
            rows.extend_from_slice(&source.1[piece.rows.start as usize..piece.rows.end as usize]);
            used.entry(piece.source).or_default().extend(piece.rows.clone());
        }
        if let Some(first) = shape.first_mut() {
            *first = rows.len() as u64;
        }
        assert!(out.insert(tensor.name.clone(), (shape, rows)).is_none(), "{} twice", tensor.name);
    }
    for i in &mapped.unknown {
        assert!(used.insert(*i, (0..rows_of(&order[*i].1)).collect()).is_none());
        out.insert(order[*i].0.clone(), from[&order[*i].0].clone());
    }
    for (i, (name, shape)) in order.iter().enumerate() {
        let mut rows = used.remove(&i).unwrap_or_else(|| panic!("{name} went nowhere"));
        rows.sort_unstable();
        assert_eq!(rows, (0..rows_of(shape)).collect::<Vec<_>>(), "each row of {name} once");
    }
    out
}

fn there_and_back(family: &str, tensors: &[(String, Vec<u64>)], prefix: &str) {
    let rows = |name: &str, shape: &[u64]| (0..rows_of(shape)).map(|row| (name.to_owned(), row)).collect();
    let from: Rows = tensors.iter().map(|(name, shape)| (name.clone(), (shape.clone(), rows(name, shape)))).collect();
    let there = to_original(&borrowed(tensors)).unwrap();
    assert_eq!((there.family, there.prefix), (family, ""));
    let original: Rows =
        apply(&there, &from, tensors).into_iter().map(|(name, rows)| (format!("{prefix}{name}"), rows)).collect();
    let order: Vec<(String, Vec<u64>)> =
        original.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect();
    let back = to_diffusers(&borrowed(&order)).unwrap();
    assert_eq!((back.family, back.prefix), (family, prefix));
    let back: Rows = apply(&back, &original, &order)
        .into_iter()
        .map(|(name, rows)| (name.strip_prefix(prefix).map_or(name.clone(), str::to_owned), rows))
        .collect();
    assert_eq!(back, from);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn round_trips(
        family in 0..FAMILIES.len(),
        (blocks, width) in (1_usize..12, 1_u64..5),
        left_out in proptest::collection::vec(0_usize..60, 0..6),
        prefix in 0..PREFIXES.len(),
    ) {
        let family = FAMILIES[family];
        let Layout::Sections(sections) = family.layout else { return Ok(()) };
        prop_assume!(!family.diffusers.is_empty());
        let needed = [family.diffusers, family.original].concat();
        let mut tensors = model(&table::rules(sections), blocks, width, &left_out, &needed);
        tensors.push(("something.else".into(), vec![3]));
        there_and_back(family.name, &tensors, PREFIXES[prefix]);
    }

    #[test]
    fn unets_round_trip(
        resnets in proptest::collection::vec(1_usize..4, 1..5),
        depths in proptest::collection::vec(0_usize..3, 4),
        label: bool,
        prefix in 0..PREFIXES.len(),
    ) {
        there_and_back("unet", &unet(&resnets, &depths, label), PREFIXES[prefix]);
    }

    /// Whatever a file says, there is an answer, and no row is lost or doubled.
    #[test]
    fn any_input_is_answered(
        family in 0..FAMILIES.len(),
        original: bool,
        picks in proptest::collection::vec((0_usize..200, 0_usize..3, proptest::collection::vec(0_u64..9, 0..3)), 0..40),
        names in proptest::collection::vec("[a-z*.0-9é]{0,12}", 0..4),
    ) {
        let family = FAMILIES[family];
        let mut tensors = marks(if original { family.original } else { family.diffusers });
        if let Layout::Sections(sections) = family.layout {
            let rules = table::rules(sections);
            for (pick, number, shape) in picks {
                let rule = &rules[pick % rules.len()];
                let part = if original { &rule.whole } else { &rule.parts[pick % rule.parts.len()] };
                let ending = [".weight", ".bias"][pick % 2];
                tensors.push((format!("{}{ending}", part.replacen('*', &number.to_string(), 1)), shape));
            }
        }
        tensors.extend(names.into_iter().map(|name| (name, vec![2])));
        let mapped = if original { to_diffusers(&borrowed(&tensors)) } else { to_original(&borrowed(&tensors)) };
        if let Ok(mapped) = mapped {
            let rows = |name: &str, shape: &[u64]| (0..rows_of(shape)).map(|row| (name.to_owned(), row)).collect();
            let from: Rows = tensors.iter().map(|(name, shape)| (name.clone(), (shape.clone(), rows(name, shape)))).collect();
            apply(&mapped, &from, &tensors);
        }
    }
}
