//! Pre-tokenizers that llama.cpp has, by their steps.

/// What tells names of the same steps apart.
pub(in super::super) enum Hint {
    /// One of these architectures.
    Architecture(&'static [&'static str]),
    /// A token of the vocabulary.
    Token(&'static str),
    /// Words of the vocabulary need no merges.
    IgnoresMerges,
    /// Nothing else.
    Otherwise,
}

/// Steps, and the names for them; the first whose hint holds.
pub(in super::super) struct Pattern {
    pub steps: &'static [&'static str],
    pub names: &'static [(Hint, &'static str)],
}

/// Every name that llama.cpp loads.
pub const NAMES: &[&str] = &[
    "default",
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "minicpm5",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "youtu",
    "falcon",
    "mpt",
    "starcoder",
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "gigachat",
    "jina-v2-es",
    "jina-v2-de",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "jais-2",
    "gemma4",
    "granite-embed-multi-311m",
    "sarvam-moe",
    "jina-v1-en",
    "jina-v2-code",
    "roberta-bpe",
    "whitespace",
    "refact",
    "command-r",
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "qwen35",
    "stablelm2",
    "olmo",
    "dbrx",
    "smaug-bpe",
    "poro-chat",
    "chatglm-bpe",
    "glm4",
    "glm5",
    "viking",
    "jais",
    "tekken",
    "smollm",
    "codeshell",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "exaone4",
    "exaone-moe",
    "chameleon",
    "minerva-7b",
    "megrez",
    "gpt-4o",
    "llama4",
    "kanana2",
    "talkie",
    "granite-embed-multi-97m",
    "tiny_aya",
    "cohere2moe",
    "superbpe",
    "trillion",
    "granite-docling",
    "bailingmoe",
    "bailingmoe2",
    "llada-moe",
    "seed-coder",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "joyai-llm",
    "kimi-k2",
    "ufakzeka",
    "grok-2",
    "afmoe",
    "laguna",
    "minimax-m2",
    "solar-open",
    "mellum2",
];

/// The pattern that GPT-4's tokenizer has beside its contractions, up to numbers, and from there on.
macro_rules! words {
    ($numbers:literal) => {
        concat!(
            "split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|",
            $numbers,
            "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
        )
    };
}

/// The pattern that tells upper and lower case apart, with what may follow a word, and numbers.
macro_rules! cased {
    ($start:literal, $after:literal, $numbers:literal) => {
        concat!(
            $start,
            "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+",
            $after,
            "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*",
            $after,
            "|",
            $numbers,
            "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
        )
    };
}

const CONTRACTIONS: &str = "split 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const SENTENCES: &str = "split  ?[^(\\s|.,!?…。，、।۔،)]+";
const GPT_4O: &str = cased!("split ", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\p{N}{1,3}");
const CJK: &str = "split [一-龥぀-ゟ゠-ヿ]+";
const HAN_AND_HANGUL: &str = "split [一-龥ࠀ-一가-퟿]+";

use Hint::{Architecture, IgnoresMerges, Otherwise, Token};

/// The names for GPT-2's pattern.
const GPT_2: &[(Hint, &str)] = &[
    (Architecture(&["phi2"]), "phi-2"),
    (Architecture(&["modern-bert"]), "modern-bert"),
    (Architecture(&["bert"]), "roberta-bpe"),
    (Architecture(&["jina-bert-v2"]), "jina-v2-es"),
    (Architecture(&["mpt"]), "mpt"),
    (Architecture(&["jais"]), "jais"),
    (Architecture(&["exaone4"]), "exaone4"),
    (Architecture(&["olmo", "olmoe"]), "olmo"),
    // GPT-NeoX's vocabulary, which the hash takes for OLMo's.
    (Token("<|padding|>"), "olmo"),
    (Otherwise, "gpt-2"),
];

/// The table.
pub(in super::super) const PATTERNS: &[Pattern] = &[
    Pattern {
        steps: &[words!("\\p{N}{1,3}"), "bytes"],
        names: &[
            (Architecture(&["chatglm"]), "chatglm-bpe"),
            (Architecture(&["glm4", "glm4moe", "glm-dsa"]), "glm4"),
            (Architecture(&["dbrx"]), "dbrx"),
            (Architecture(&["falcon-h1"]), "falcon-h1"),
            (Architecture(&["lfm2", "lfm2moe"]), "lfm2"),
            (Token("<|begin_of_text|>"), "llama-bpe"),
            (IgnoresMerges, "llama-bpe"),
            // GPT-4's vocabulary (OLMo 2, Phi 4), and whatever else needs its merges.
            (Otherwise, "dbrx"),
        ],
    },
    Pattern {
        steps: &[words!("\\p{N}"), "bytes"],
        names: &[
            (Architecture(&["stablelm"]), "stablelm2"),
            (Architecture(&["grok"]), "grok-2"),
            (Architecture(&["hunyuan-moe"]), "hunyuan"),
            (Token("<｜begin▁of▁sentence｜>"), "deepseek-r1-qwen"),
            (Otherwise, "qwen2"),
        ],
    },
    Pattern {
        steps: &[
            "split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+\
             [\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
            "bytes",
        ],
        names: &[(Otherwise, "qwen35")],
    },
    Pattern { steps: &["gpt-2 bytes"], names: GPT_2 },
    Pattern { steps: &[CONTRACTIONS, "bytes"], names: GPT_2 },
    Pattern {
        steps: &["each digit", "gpt-2 bytes"],
        names: &[
            (Architecture(&["command-r", "cohere2"]), "command-r"),
            (Architecture(&["refact", "granite", "granitemoe", "granitehybrid"]), "refact"),
            (Architecture(&["codeshell"]), "codeshell"),
            (Architecture(&["exaone"]), "exaone"),
            (Architecture(&["starcoder", "starcoder2"]), "starcoder"),
            (Token("<|im_start|>"), "smollm"),
            (Token("<fim_prefix>"), "refact"),
            (Otherwise, "starcoder"),
        ],
    },
    Pattern {
        steps: &["punctuation Contiguous", "gpt-2 bytes", "digits", "split [0-9][0-9][0-9]"],
        names: &[(Otherwise, "falcon")],
    },
    Pattern {
        steps: &[
            "split [\\r\\n]",
            "split \\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
            "split \\s?[!-/:-~！-／：-～‘-‟　-。]+",
            "split \\s+$",
            HAN_AND_HANGUL,
            "each digit",
            "bytes",
        ],
        names: &[(Otherwise, "deepseek-llm")],
    },
    Pattern {
        steps: &["split [\\r\\n]", "split \\s?\\p{L}+", "split \\s?\\p{P}+", HAN_AND_HANGUL, "each digit", "bytes"],
        names: &[(Otherwise, "deepseek-coder")],
    },
    Pattern {
        steps: &[
            "split \\p{N}{1,3}",
            CJK,
            "split [!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| \
             ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
            "bytes",
        ],
        names: &[(Architecture(&["hunyuan-dense"]), "hunyuan-dense"), (Otherwise, "deepseek-v3")],
    },
    Pattern { steps: &[cased!("split ", "", "\\p{N}"), "bytes"], names: &[(Otherwise, "tekken")] },
    Pattern {
        steps: &[GPT_4O, "bytes"],
        names: &[
            (Architecture(&["llama4"]), "llama4"),
            (Architecture(&["minimax-m2"]), "minimax-m2"),
            (Otherwise, "gpt-4o"),
        ],
    },
    Pattern {
        steps: &["split \\d{1,3}(?=(?:\\d{3})*\\b)", GPT_4O, "bytes"],
        names: &[(Architecture(&["cohere2moe"]), "cohere2moe"), (Otherwise, "tiny_aya")],
    },
    Pattern { steps: &[SENTENCES, "bytes"], names: &[(Architecture(&["bloom"]), "bloom"), (Otherwise, "poro-chat")] },
    Pattern { steps: &[SENTENCES, "each digit", "bytes"], names: &[(Otherwise, "viking")] },
    Pattern {
        steps: &[
            "split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*\
             [\\r\\n]|\\s+(?!\\S)|\\s+",
            "bytes",
        ],
        names: &[
            (Architecture(&["bailingmoe2"]), "bailingmoe2"),
            (Architecture(&["llada-moe"]), "llada-moe"),
            (Otherwise, "bailingmoe"),
        ],
    },
    Pattern {
        steps: &[
            "split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*\
             [\\r\\n]+|\\s+(?!\\S)|\\s+",
            "bytes",
        ],
        names: &[(Otherwise, "seed-coder")],
    },
    Pattern {
        steps: &[
            "split [^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
            "bytes",
        ],
        names: &[(Otherwise, "ufakzeka")],
    },
    Pattern {
        steps: &[
            "split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| \
             ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
            "bytes",
        ],
        names: &[(Otherwise, "exaone-moe")],
    },
    Pattern { steps: &["split \\p{N}{1,3}", words!("\\p{N}+"), "bytes"], names: &[(Otherwise, "minicpm5")] },
    Pattern {
        steps: &[
            "split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\
             \\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\
             \\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
            "bytes",
        ],
        names: &[(Otherwise, "jais-2")],
    },
    // SentencePiece's way told as BPE: the whole text is merged, its blanks are U+2581.
    Pattern {
        steps: &["blanks", "split MergedWithPrevious text \" \""],
        names: &[(Architecture(&["sarvam-moe"]), "sarvam-moe"), (Otherwise, "gemma4")],
    },
    Pattern { steps: &["blanks"], names: &[(Architecture(&["sarvam-moe"]), "sarvam-moe"), (Otherwise, "gemma4")] },
];
