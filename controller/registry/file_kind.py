"""What a file that is no ONNX model is, by its first bytes: so that the refusal can say it."""

from typing import Final

_PICKLE: Final = "a Python pickle: never accepted, because loading one runs whatever it says"
_EXPORT: Final = "export the model to ONNX"

# By the bytes at the file's start. An ONNX file starts with a protobuf tag, none of which is here.
_STARTS: Final = (
    *((bytes((0x80, protocol)), _PICKLE) for protocol in range(2, 6)),
    *((start, _PICKLE) for start in (b"(lp", b"(dp", b"]q\x00", b"}q\x00")),
    (b"ZF", "a joblib file, which is a pickle: never accepted"),
    (b"\x89HDF\r\n\x1a\n", f"HDF5, such as Keras writes; {_EXPORT}"),
    (b"\x93NUMPY", "a NumPy array, not a model"),
    (b"GGUF", f"GGUF weights; {_EXPORT}"),
    (b"\x7fELF", "a program, not a model"),
    (b"<?xml", f"XML, such as OpenVINO or PMML; {_EXPORT}"),
    (b"{", f"JSON, not an ONNX model; {_EXPORT}"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (b"<!DOCTYPE", "a web page, not a model"),
    (b"<html", "a web page, not a model"),
)
# A pickle inside is as bad as one outside: joblib compresses, so these are named together.
_COMPRESSED: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"x\x01", "zlib"),
    (b"x\x5e", "zlib"),
    (b"x\x9c", "zlib"),
    (b"x\xda", "zlib"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def other_kind(data: bytes) -> str:
    """What ``data`` is, if its bytes tell that it is no ONNX file; empty if they don't."""
    if not data:
        return "empty"
    kinds = (kind for start, kind in _STARTS if data.startswith(start))
    return next(kinds, "") or _pickled(data) or _packed(data) or _by_offset(data)


def _pickled(data: bytes) -> str:
    """Of the oldest protocol: "c", a module, a line's end, a class. No ONNX tag is a "c"."""
    return _PICKLE if data.startswith(b"c") and b"\n" in data[:200] else ""


def _packed(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        return _archive(data)
    for start, kind in _COMPRESSED:
        if data.startswith(start):
            return (
                f"compressed with {kind}, as joblib writes pickles (never accepted); "
                "give the ONNX file itself"
            )
    return f"a tar archive; {_EXPORT}" if data[257:262] == b"ustar" else ""


def _archive(data: bytes) -> str:
    if b"data.pkl" in data[:4096] or b".pkl" in data[-65_536:]:
        return "a PyTorch checkpoint, which holds a Python pickle: never accepted"
    if b".npy" in data[:4096]:
        return "a NumPy .npz archive, not a model: is it the reference data?"
    return f"a ZIP archive, such as PyTorch and Keras write; {_EXPORT}"


def _by_offset(data: bytes) -> str:
    if data[4:8] == b"TFL3":
        return f"a TensorFlow Lite model; {_EXPORT}"
    if data[4:8] == b"ORTM":
        return "a model in onnxruntime's own format; give the ONNX file it was made from"
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") <= len(data):
        return f"safetensors, which holds weights but no computation; {_EXPORT}"
    return ""
