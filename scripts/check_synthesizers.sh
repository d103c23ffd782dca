#!/usr/bin/env bash
# Says which synthesizer is missing of those that training and its evaluation let speak.
set -euo pipefail
debian="flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festvox-don festvox-italp16k festvox-itapc16k festvox-suopuhe-lj festvox-suopuhe-mv festvox-czech-dita festvox-czech-krb festvox-czech-machac libttspico-utils rhvoice rhvoice-english rhvoice-esperanto rhvoice-kyrgyz rhvoice-russian rhvoice-ukrainian mbrola mbrola-us1 mbrola-us2 mbrola-us3 mbrola-en1"
for program in flite espeak-ng festival pico2wave RHVoice-test mbrola; do
    command -v "$program" > /dev/null || {
        echo "$program is missing; on Debian (pico, RHVoice and MBROLA are in its non-free part): apt-get install $debian"
        exit 1
    }
done
