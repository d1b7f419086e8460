"""An engine folder in words."""

from pathlib import Path

from engines.manifest import Manifest


def inspect(folder: Path, *, verify: bool = True) -> dict[str, dict[str, str]]:
    """Headings to labels to values, ready to print.

    Raises EngineFolderError naming both sides of a mismatch; `verify=False` skips the check of all bytes.
    """
    manifest = Manifest.load(folder, verify=verify)
    sizes = manifest.sizes
    per_token = manifest.kv.bytes_per_token(sizes.layers)
    total = sum(entry.bytes for entry in manifest.files.values())
    found = {
        "Engine": {
            "name": manifest.name,
            "family": manifest.family,
            "precision": manifest.precision + (f", blocks of {manifest.block}" if manifest.block else ""),
            "activations": manifest.dtype,
            "runtime": manifest.runtime,
            "dialects": ", ".join(manifest.graphs) or manifest.dialect,
            "size": f"{total / 1e6:,.1f} MB",
        },
        "Model": {
            "parameters": f"{sizes.parameters / 1e6:,.1f} M",
            "layers": f"{sizes.layers}, {sizes.hidden} wide",
            "heads": f"{sizes.heads}, {sizes.kv_heads} for keys and values, {sizes.head_dim} wide",
            "vocabulary": f"{sizes.vocab_size:,}",
            "context": f"{sizes.context:,} tokens",
            "stop tokens": ", ".join(map(str, manifest.eos_token_ids)) or "none",
        },
        "Cache": {
            "shape": " × ".join(map(str, manifest.kv.shape)),
            "per token": f"{per_token:,} bytes",
            "per slot of full context": f"{per_token * sizes.context / 1e6:,.1f} MB",
        },
    }
    if manifest.plan:
        plan = manifest.plan
        found["Plan"] = {
            "compiled by": f"{plan.flavour} {plan.version}",
            "for": ", ".join(plan.compute_capabilities)
            or ("compute capability 8.9 and newer" if manifest.precision == "fp8" else "any GPU it supports"),
            "capacity": f"{plan.capacity:,} tokens per slot",
        } | {
            profile.name: f"up to {profile.batch[2]} rows × {profile.tokens[2]} tokens"
            for profile in plan.profiles
        }
    if manifest.quality:
        found["Quality"] = {
            key.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else str(value)
            for key, value in manifest.quality.items()
        }
    found["Built with"] = dict(manifest.builder)
    found["Files"] = {
        name: f"{entry.bytes:,} bytes, sha256 {entry.sha256[:16]}…" for name, entry in manifest.files.items()
    }
    return found
