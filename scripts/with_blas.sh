#!/usr/bin/env bash
# with_blas.sh COMMAND...: run it with OpenBLAS in front of the reference BLAS of MLX's CPU wheel, where there is one.
# Products of matrices become some 20 times faster; results differ in the last bits only.
# An OpenBLAS that is older than the processor does not know it and takes its oldest kernels, a quarter as fast as
# those that the processor could run: then it is told which.
for library in /usr/lib/*/openblas-pthread/libopenblas.so.0; do
    if [ -e "$library" ] && [ -z "${LD_PRELOAD:-}" ]; then
        if [ -z "${OPENBLAS_CORETYPE:-}" ] && [[ $(OPENBLAS_VERBOSE=2 LD_PRELOAD=$library env true 2>&1) == *Prescott* ]]; then
            flags=" $(grep -m1 '^flags' /proc/cpuinfo) "
            if [[ $flags == *" avx512bw "* && $flags == *" avx512vl "* ]]; then
                export OPENBLAS_CORETYPE=SkylakeX
            elif [[ $flags == *" avx2 "* && $flags == *" fma "* ]]; then
                export OPENBLAS_CORETYPE=Haswell
            fi
        fi
        export LD_PRELOAD=$library OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
    fi
done
exec "$@"
