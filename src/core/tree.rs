//! The tensor tree: names split at dots where more than one tensor shares what stands before, in an arena in preorder.
//!
//! A node's subtree is the slice of nodes up to its `end`, and the tensors below it are one range of the model's
//! (naturally ordered) tensors; so totals of a group are differences of prefix sums, and 200,000 tensors feel like 200.
use std::ops::Range;

use super::model::{Model, TensorId};

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
struct Node {
    parent: Option<NodeId>,
    /// One past the last node of the subtree.
    end: u32,
    depth: u16,
    leaf: bool,
    open: bool,
    /// The label is this range of bytes of the first tensor's name.
    label: Range<u32>,
    tensors: Range<u32>,
}

/// Groups and tensors, which of them are open, and the rows that are therefore visible.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    visible: Vec<NodeId>,
    /// Prefix counts of tensors that the filter shows; empty without a filter.
    hits: Vec<u32>,
    /// Leaves in the order of a list; empty while it is a tree.
    list: Vec<NodeId>,
}

impl Tree {
    /// The tree of a model's tensors, which are in natural order. Chains of only children and the first two levels are open.
    pub fn new(model: &Model) -> Self {
        let mut nodes: Vec<Node> = Vec::with_capacity(model.tensors.len() * 5 / 4 + 1);
        // The groups that the previous tensor lies in, outermost first, each with the end of its prefix.
        let mut stack: Vec<(NodeId, usize)> = Vec::new();
        let mut previous: &str = "";
        for (t, tensor) in model.tensors.iter().enumerate() {
            let name = tensor.name.as_str();
            let shared = stack
                .iter()
                .take_while(|(_, end)| name.len() > *end && previous.as_bytes()[..=*end] == name.as_bytes()[..=*end])
                .count();
            close(&mut nodes, &mut stack, shared, t);
            let mut start = stack.last().map_or(0, |(_, end)| end + 1);
            let next = model.tensors.get(t + 1).map_or(&[][..], |next| next.name.as_bytes());
            while let Some(dot) = name.as_bytes()[start..].iter().position(|c| *c == b'.') {
                let end = start + dot;
                // A group of one tensor is no group: its row says `to_q.weight`.
                if next.get(..=end) != name.as_bytes().get(..=end) {
                    break;
                }
                let node = push(&mut nodes, &stack, start..end, t, false);
                stack.push((node, end));
                start = end + 1;
            }
            push(&mut nodes, &stack, start..name.len(), t, true);
            previous = name;
        }
        close(&mut nodes, &mut stack, 0, model.tensors.len());
        let mut tree = Self { nodes, ..Self::default() };
        tree.open_first_levels(model);
        tree
    }

    /// Opens the first level, chains of only children, and lists of numbered blocks near the top, so that a model's
    /// blocks are on screen at once.
    fn open_first_levels(&mut self, model: &Model) {
        // Levels are counted without the chains of only children.
        let mut level = vec![0u16; self.nodes.len()];
        let roots = self.siblings(None).count();
        for i in 0..self.nodes.len() {
            let id = NodeId(i as u32);
            let alone = match self.nodes[i].parent {
                Some(p) => self.siblings(Some(p)).take(2).count() == 1,
                None => roots == 1,
            };
            let above = self.nodes[i].parent.map_or(0, |p| level[p.index()]);
            level[i] = above + u16::from(!alone);
            let numbered = || self.siblings(Some(id)).all(|c| self.label(c, model).bytes().all(|b| b.is_ascii_digit()));
            let chain = self.siblings(Some(id)).take(2).count() == 1;
            self.nodes[i].open = !self.nodes[i].leaf && (chain || level[i] < 2 || (level[i] < 4 && numbered()));
        }
        self.refresh();
    }

    fn siblings(&self, parent: Option<NodeId>) -> impl Iterator<Item = NodeId> {
        let (mut at, end) = match parent {
            Some(p) => (p.0 + 1, self.nodes[p.index()].end),
            None => (0, self.nodes.len() as u32),
        };
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let id = NodeId(at);
                at = self.nodes[id.index()].end;
                id
            })
        })
    }

    /// The rows to show, in order.
    pub fn visible(&self) -> &[NodeId] {
        &self.visible
    }
    /// The row that shows a node, if any does.
    pub fn row_of(&self, node: NodeId) -> Option<usize> {
        if self.is_list() {
            return self.visible.iter().position(|n| *n == node);
        }
        self.visible.binary_search(&node).ok()
    }
    /// The row of a node or, where it is folded away, of its nearest visible ancestor.
    pub fn row_near(&self, node: NodeId) -> usize {
        let mut at = Some(node);
        while let Some(n) = at {
            if let Some(row) = self.row_of(n) {
                return row;
            }
            at = self.parent(n);
        }
        if self.is_list() {
            return 0;
        }
        self.visible.partition_point(|n| *n < node).min(self.visible.len().saturating_sub(1))
    }
    /// The node's label: one segment of the name, or what follows it where the tensor has no group to itself; in a list
    /// the whole name.
    pub fn label<'m>(&self, node: NodeId, model: &'m Model) -> &'m str {
        if self.is_list() {
            return self.path(node, model);
        }
        let n = &self.nodes[node.index()];
        let name = &model.tensors[n.tensors.start as usize].name;
        // Labels are cut at dots, so the range ends on character boundaries.
        name.get(n.label.start as usize..n.label.end as usize).unwrap_or_default()
    }
    /// The name's prefix up to this node: `blocks.2.attn`.
    pub fn path<'m>(&self, node: NodeId, model: &'m Model) -> &'m str {
        let n = &self.nodes[node.index()];
        model.tensors[n.tensors.start as usize].name.get(..n.label.end as usize).unwrap_or_default()
    }
    /// The tensors at or below a node.
    pub fn tensors(&self, node: NodeId) -> impl ExactSizeIterator<Item = TensorId> + use<> {
        self.nodes[node.index()].tensors.clone().map(TensorId)
    }
    /// The same as a range of indexes, for differences of prefix sums.
    pub fn range(&self, node: NodeId) -> Range<usize> {
        let r = &self.nodes[node.index()].tensors;
        r.start as usize..r.end as usize
    }
    /// The tensor, where the node is one.
    pub fn tensor(&self, node: NodeId) -> Option<TensorId> {
        let n = &self.nodes[node.index()];
        n.leaf.then_some(TensorId(n.tensors.start))
    }
    /// The leaf of a tensor.
    pub fn leaf_of(&self, id: TensorId) -> Option<NodeId> {
        // Preorder: leaves come in the tensors' order.
        let mut low = 0;
        let mut high = self.nodes.len();
        while low < high {
            let mid = (low + high) / 2;
            let n = &self.nodes[mid];
            if n.tensors.start < id.0 || (n.tensors.start == id.0 && !n.leaf) { low = mid + 1 } else { high = mid }
        }
        self.nodes.get(low).filter(|n| n.leaf && n.tensors.start == id.0).map(|_| NodeId(low as u32))
    }
    /// How deep it lies; 0 at the top, and in a list.
    pub fn depth(&self, node: NodeId) -> usize {
        if self.is_list() {
            return 0;
        }
        self.nodes[node.index()].depth.into()
    }
    /// The group it lies in.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.nodes.get(node.index())?.parent
    }
    /// Number of direct children.
    pub fn children(&self, node: NodeId) -> usize {
        self.siblings(Some(node)).count()
    }
    /// Whether a group shows its children.
    pub fn is_open(&self, node: NodeId) -> bool {
        let n = &self.nodes[node.index()];
        !n.leaf && (n.open || self.filtered())
    }
    /// Opens or closes a group.
    pub fn set_open(&mut self, node: NodeId, open: bool) {
        self.nodes[node.index()].open = open;
        self.refresh();
    }
    /// Opens or closes every group at or below a node, or all of them.
    pub fn set_all_open(&mut self, below: Option<NodeId>, open: bool) {
        let range = below.map_or(0..self.nodes.len(), |n| n.index()..self.nodes[n.index()].end as usize);
        for node in &mut self.nodes[range] {
            node.open = open;
        }
        self.refresh();
    }
    /// Opens everything above a node, so that it is visible.
    pub fn reveal(&mut self, node: NodeId) {
        let mut at = self.parent(node);
        while let Some(n) = at {
            self.nodes[n.index()].open = true;
            at = self.parent(n);
        }
        self.refresh();
    }

    /// Shows only the tensors that `keep` says, with the groups above them, all open; `None` shows everything again.
    pub fn filter(&mut self, keep: Option<&dyn Fn(TensorId) -> bool>) {
        self.hits.clear();
        if let Some(keep) = keep {
            let tensors = self.nodes.last().map_or(0, |n| n.tensors.end);
            self.hits.reserve(tensors as usize + 1);
            self.hits.push(0);
            let mut count = 0;
            for t in 0..tensors {
                count += u32::from(keep(TensorId(t)));
                self.hits.push(count);
            }
        }
        self.refresh();
    }
    /// Whether a filter is on.
    pub fn filtered(&self) -> bool {
        !self.hits.is_empty()
    }
    /// Tensors that the filter shows; all of them without one.
    pub fn shown(&self) -> usize {
        match self.hits.last() {
            Some(n) => *n as usize,
            None => self.nodes.last().map_or(0, |n| n.tensors.end as usize),
        }
    }
    /// Whether the filter shows a tensor.
    pub fn shows(&self, id: TensorId) -> bool {
        self.hits.is_empty() || self.hits[id.index() + 1] > self.hits[id.index()]
    }

    /// Shows tensors as a list in that order, or, with `None`, the tree again.
    pub fn arrange(&mut self, order: Option<&[TensorId]>) {
        self.list = order.unwrap_or_default().iter().filter_map(|id| self.leaf_of(*id)).collect();
        self.refresh();
    }
    /// Whether it is shown as a list.
    pub fn is_list(&self) -> bool {
        !self.list.is_empty()
    }

    fn refresh(&mut self) {
        self.visible.clear();
        let filtered = !self.hits.is_empty();
        if self.is_list() {
            let shows = |n: &&NodeId| self.tensor(**n).is_some_and(|id| self.shows(id));
            self.visible = self.list.iter().filter(shows).copied().collect();
            return;
        }
        let mut i = 0;
        while i < self.nodes.len() {
            let n = &self.nodes[i];
            if filtered && self.hits[n.tensors.start as usize] == self.hits[n.tensors.end as usize] {
                i = n.end as usize;
                continue;
            }
            self.visible.push(NodeId(i as u32));
            i = if n.open || filtered { i + 1 } else { n.end as usize };
        }
    }
}

fn push(nodes: &mut Vec<Node>, stack: &[(NodeId, usize)], label: Range<usize>, tensor: usize, leaf: bool) -> NodeId {
    let id = NodeId(nodes.len() as u32);
    nodes.push(Node {
        parent: stack.last().map(|(n, _)| *n),
        end: id.0 + 1,
        depth: stack.len().min(u16::MAX.into()) as u16,
        leaf,
        open: false,
        label: label.start as u32..label.end as u32,
        tensors: tensor as u32..tensor as u32 + 1,
    });
    id
}

/// Ends every group of the stack beyond the first `keep`.
fn close(nodes: &mut [Node], stack: &mut Vec<(NodeId, usize)>, keep: usize, tensors: usize) {
    let end = nodes.len() as u32;
    for (id, _) in stack.drain(keep..) {
        let node = &mut nodes[id.index()];
        node.end = end;
        node.tensors.end = tensors as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::testing::model_of;

    fn draw(tree: &Tree, model: &Model) -> String {
        tree.visible()
            .iter()
            .map(|n| {
                let glyph = match (tree.tensor(*n), tree.is_open(*n)) {
                    (Some(_), _) => ' ',
                    (None, true) => '-',
                    (None, false) => '+',
                };
                format!("{}{glyph}{} {}\n", " ".repeat(tree.depth(*n)), tree.label(*n, model), tree.tensors(*n).len())
            })
            .collect()
    }

    fn example() -> Model {
        model_of(&[
            "model.blocks.0.attn.q.weight",
            "model.blocks.0.mlp.weight",
            "model.blocks.2.attn.q.weight",
            "model.blocks.2.mlp.weight",
            "model.blocks.10.attn.q.weight",
            "model.embed.weight",
            "model.embed",
        ])
    }

    #[test]
    fn opens_on_the_blocks() {
        let model = example();
        assert_eq!(
            draw(&Tree::new(&model), &model),
            "-model 7\n -blocks 5\n  +0 2\n  +2 2\n   10.attn.q.weight 1\n  embed 1\n  embed.weight 1\n"
        );
    }

    #[test]
    fn filter_keeps_ancestors() {
        let model = example();
        let mut tree = Tree::new(&model);
        tree.filter(Some(&|id| model.tensor(id).name.contains("mlp")));
        assert_eq!(draw(&tree, &model), "-model 7\n -blocks 5\n  -0 2\n    mlp.weight 1\n  -2 2\n    mlp.weight 1\n");
        assert_eq!(tree.shown(), 2);
        tree.filter(None);
        assert_eq!(tree.shown(), 7);
    }

    #[test]
    fn a_list_has_an_order_of_its_own_and_whole_names() {
        let model = example();
        let mut tree = Tree::new(&model);
        let before = draw(&tree, &model);
        tree.arrange(Some(&[TensorId(5), TensorId(1), TensorId(3)]));
        assert_eq!(draw(&tree, &model), " model.embed 1\n model.blocks.0.mlp.weight 1\n model.blocks.2.mlp.weight 1\n");
        tree.filter(Some(&|id| model.tensor(id).name.contains("mlp")));
        assert_eq!(tree.visible().len(), 2);
        let leaf = tree.leaf_of(TensorId(3)).expect("a leaf");
        assert_eq!((tree.row_of(leaf), tree.row_near(leaf)), (Some(1), 1));
        tree.filter(None);
        tree.arrange(None);
        assert_eq!(draw(&tree, &model), before);
    }

    #[test]
    fn leaves_are_found() {
        let model = example();
        let tree = Tree::new(&model);
        for id in model.ids() {
            let leaf = tree.leaf_of(id).expect("every tensor has a leaf");
            assert_eq!(tree.tensor(leaf), Some(id));
            assert_eq!(tree.path(leaf, &model), model.tensor(id).name);
        }
    }

    #[test]
    fn a_folded_node_is_near_its_visible_ancestor() {
        let model = example();
        let mut tree = Tree::new(&model);
        let id = model.find("model.blocks.2.attn.q.weight").expect("it is there");
        let leaf = tree.leaf_of(id).expect("a leaf");
        let row = tree.row_near(leaf);
        assert_eq!(tree.label(tree.visible()[row], &model), "2");
        tree.reveal(leaf);
        assert_eq!(tree.visible()[tree.row_near(leaf)], leaf);
    }

    #[test]
    fn an_empty_model_has_an_empty_tree() {
        let tree = Tree::new(&model_of(&[]));
        assert_eq!((tree.visible().len(), tree.row_near(NodeId(0))), (0, 0));
    }
}
