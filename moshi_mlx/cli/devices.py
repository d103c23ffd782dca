"""`moshi-mlx devices`: the microphones and speakers there are."""

import json

from moshi_mlx.cli import options


def devices(
    as_json: options.JsonOption = False,
) -> None:
    """List microphones and speakers, with their numbers, and the sample rates at which they open.

    A number or a part of a name is what --input and --output of other commands take. A star marks the system's
    default. A device that does not open is in use by another program or has gone.
    """
    from moshi_mlx.audio.devices import Kind, list_devices, opening_rates

    kinds: tuple[Kind, ...] = ("input", "output")
    found = [
        {
            "index": device.index,
            "name": device.name,
            "host_api": device.host_api,
            "default_rate": device.rate,
            **{
                kind: {
                    "channels": device.channels(kind),
                    "default": device.is_default(kind),
                    "rates": opening_rates(device, kind),
                }
                for kind in kinds
                if device.channels(kind)
            },
        }
        for device in list_devices()
    ]
    if as_json:
        print(json.dumps({"devices": found}))
    else:
        print(page(found))


def page(found: list[dict]) -> str:
    """The devices for people: microphones, then speakers."""
    lines = []
    for title, kind in (("Microphones", "input"), ("Speakers", "output")):
        there = [_line(device, device[kind]) for device in found if kind in device]
        lines += [f"{title}:", *(there or ["     none"])]
    return "\n".join(lines)


def _line(device: dict, side: dict) -> str:
    rates = ", ".join(f"{rate / 1000:g}" for rate in side["rates"])
    facts = f"{device['host_api']}, {side['channels']} ch, {f'{rates} kHz' if rates else 'does not open'}"
    return f"{'*' if side['default'] else ' '}{device['index']:3}  {device['name']} ({facts})"
