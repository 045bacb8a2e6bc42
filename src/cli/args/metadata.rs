//! `metadata`: what may be said of it on the command line.
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `metadata`.
#[derive(Args, Debug)]
pub struct MetadataArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: MetadataCommand,
}

/// What to do with a file's metadata.
#[derive(Debug, Subcommand)]
pub enum MetadataCommand {
    /// A file's metadata as JSON, what is JSON in it decoded
    Show {
        /// A .safetensors or .gguf file
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Give a .safetensors file the metadata it lacks; its tensors are copied as they are, and it is replaced at once
    ///
    /// A Nunchaku file gets all that its loaders read: `config`, `quantization_config`, `model_class`, `comfy_config`.
    /// Another file gets the metadata of another one, or a model's `config`.
    Add(MetadataAddArgs),
    /// Remove keys
    Remove {
        /// A .safetensors file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Which
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}

/// `metadata add`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("source").required(true).multiple(false)))]
pub struct MetadataAddArgs {
    /// A .safetensors file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Another .safetensors file, a config.json, a model's folder, an id in the Hugging Face cache, or a short name
    #[arg(long, value_name = "MODEL", group = "source")]
    pub from: Option<String>,
    /// The model that a YAML file of deepcompressor's names, as `pipeline.path` or `pipeline.name`
    #[arg(long, value_name = "FILE", group = "source")]
    pub config_yaml: Option<PathBuf>,
    /// The model's folder, id in the Hugging Face cache, or short name
    #[arg(long, value_name = "ID|DIR", group = "source")]
    pub model_path: Option<String>,
    /// Add keys that no loader reads but other tools write: full_config, model_type, hidden_size and others
    #[arg(long)]
    pub extra_metadata: bool,
}
