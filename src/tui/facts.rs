//! What is said of a group: what it is made of, and where most of its damage lies.
use super::app::{App, Facts};
use super::board;
use super::losses::Known;
use crate::core::plan::Action;
use crate::core::recipe::group_size;
use crate::core::tree::NodeId;
use crate::core::{Family, TensorId};

/// Looks at every tensor of a group.
pub fn of(app: &App, node: NodeId) -> Facts {
    Facts { node, kinds: kinds(app, node), worst: worst(app, node) }
}

/// What the tensors of a group become: how many and how large, the largest first.
fn kinds(app: &App, node: NodeId) -> Vec<(String, (usize, u64))> {
    // To copy and to leave out are one action.
    let mut by_action = hashbrown::HashMap::<(&Action, &str), (usize, u64)>::new();
    for row in app.tree.tensors(node).filter_map(|id| app.board.row(id)) {
        let slot = by_action.entry((&row.action, board::label(row))).or_insert((0, 0));
        slot.0 += 1;
        slot.1 += row.bytes_after();
    }
    let mut kinds: Vec<_> = by_action
        .into_iter()
        .map(|((action, label), (count, bytes))| match action {
            Action::Quantize(r) => {
                let rank = if r.svd_rank > 0 { format!(" rank {}", r.svd_rank) } else { String::new() };
                let rotation = if r.hadamard > 0 { format!(" hadamard {}", r.hadamard) } else { String::new() };
                let levels = if r.codebook { " codebook" } else { "" };
                let group = match r.family {
                    Family::Gguf => String::new(),
                    _ => format!(" group {}", group_size::name(r.group_size)),
                };
                (format!("{}{group}{rank}{rotation}{levels}", r.dtype), (count, bytes))
            }
            _ => (label.to_owned(), (count, bytes)),
        })
        .collect();
    kinds.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(&b.0)));
    kinds
}

/// The tensors of a group that lose most.
fn worst(app: &App, node: NodeId) -> Vec<(TensorId, f64)> {
    let mut all: Vec<_> = app
        .tree
        .tensors(node)
        .filter_map(|id| match app.losses.of_row(app.board.index(id)?)? {
            Known::Loss(..) => app.losses.damage(&(id.index()..id.index() + 1)).map(|(_, share)| (id, share)),
            Known::Failed(_) => None,
        })
        .collect();
    let order = |a: &(TensorId, f64), b: &(TensorId, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if all.len() > 8 {
        all.select_nth_unstable_by(7, order);
        all.truncate(8);
    }
    all.sort_by(order);
    all
}
