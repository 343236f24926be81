"""llama.cpp's own server out of the wheel ``xllamacpp``, with the flags of ``llama-server`` that our scripts use.

Run with a Python that has xllamacpp, in place of a ``llama-server`` that is not there: the server is llama.cpp's C++
code, unmodified; only how it is started differs.
"""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", dest="model", required=True)
    parser.add_argument("-np", dest="slots", type=int, default=1)
    parser.add_argument("-c", dest="context", type=int, default=2048)
    parser.add_argument("-fa", dest="flash", choices=["on", "off"], default="on")
    parser.add_argument("--kv-unified", action="store_true")
    parser.add_argument("--cache-type-k", choices=["f16", "f32"], default="f16")
    parser.add_argument("--cache-type-v", choices=["f16", "f32"], default="f16")
    parser.add_argument("--no-cache-idle-slots", action="store_true")
    parser.add_argument("--cache-ram", type=int, default=8192)
    parser.add_argument("--slot-save-path", default="")
    parser.add_argument("--lora")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-t", dest="threads", type=int, default=1)
    asked = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.n_parallel, params.n_ctx, params.kv_unified = asked.slots, asked.context, asked.kv_unified
    flash = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = (
        flash.LLAMA_FLASH_ATTN_TYPE_ENABLED if asked.flash == "on" else flash.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    for name in ("cache_type_k", "cache_type_v"):
        setattr(params, name, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{getattr(asked, name).upper()}"))
    params.cache_idle_slots, params.cache_ram_mib = not asked.no_cache_idle_slots, asked.cache_ram
    params.slot_save_path = asked.slot_save_path.rstrip("/") + "/" if asked.slot_save_path else ""
    params.endpoint_slots = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    if asked.lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(asked.lora, 1.0)]
    params.hostnames, params.port = [asked.host], asked.port
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
