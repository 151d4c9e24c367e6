"""The instructions to try, one or more for each feature: what they are, what they need, and how to tell that they did their work.

Each runs in 64-bit code with EAX, ECX and EDX zero, RDI and RSI at two zeroed areas of memory of 2 KiB, each aligned to 64 bytes, and a
stack. `assembly` is Intel's syntax as the GNU assembler takes it, `code` what it makes of that: tests hold the one against the other,
so that no slip of the pen looks like a fault of the processor.

From the instruction references: Intel's Software Developer's Manual, volume 2, and AMD's Architecture Programmer's Manual, volumes 3 to 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.cpuid import xfeatures
from vcpuid.cpuid.names import find
from vcpuid.errors import InputError

CR4_OSXSAVE, CR4_FSGSBASE, CR4_PKE, EFER_SVME = 1 << 18, 1 << 16, 1 << 22, 1 << 12
AMX_DATA = xfeatures.TILE_DATA
"""The component of XCR0 that Linux gives a process or a guest on request only (tile data)."""


_NAMES = {CR4_OSXSAVE: "CR4.OSXSAVE", CR4_FSGSBASE: "CR4.FSGSBASE", CR4_PKE: "CR4.PKE", EFER_SVME: "EFER.SVME"}


class Needs(NamedTuple):
    """What a kernel must have switched on before user code may execute an instruction: bits of XCR0, CR4 and EFER."""

    xcr0: int = 0
    cr4: int = 0
    efer: int = 0

    @property
    def registers(self) -> str:
        """The bits of CR4 and EFER by their names."""
        return " and ".join(name for bit, name in _NAMES.items() if bit in (self.cr4, self.efer))


NOTHING = Needs()
XSAVE = Needs(cr4=CR4_OSXSAVE)
_AVX = xfeatures.LEGACY | xfeatures.AVX
AVX, AVX512, AMX, LWP = (
    Needs(states, CR4_OSXSAVE) for states in (_AVX, _AVX | xfeatures.AVX512, xfeatures.LEGACY | xfeatures.AMX, _AVX | xfeatures.LWP)
)  # fmt: skip
FSGSBASE, PKE, SVME = Needs(cr4=CR4_FSGSBASE), Needs(cr4=CR4_PKE), Needs(efer=EFER_SVME)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One experiment.

    `feature` is a spelling that `vcpuid.cpuid.names.find` takes. `ring` 0: only a kernel may execute it. `answer` is EAX afterwards where
    the instruction did what the feature promises, `instead` the older instruction that the same bytes are elsewhere. `knows` is an
    exception that nothing but a processor with the feature raises. `silent` says why running through proves nothing.
    """

    feature: str
    assembly: str
    code: bytes
    needs: Needs = NOTHING
    ring: int = 3
    answer: int | None = None
    instead: str = ""
    knows: str = ""
    silent: str = ""

    @property
    def name(self) -> str:
        """The mnemonic under trial: that of the last step, but for those that only put things back in order."""
        mnemonics = [step.removeprefix("{vex} ").split()[0] for step in self.assembly.split("; ")]
        return [mnemonic for mnemonic in mnemonics if mnemonic not in _ORDER or len(mnemonics) == 1][-1]


_ORDER = ("1:", "tilerelease", "xend")


def _try(
    feature: str, assembly: str, code: str, needs: Needs = NOTHING, *, ring: int = 3, answer: int | None = None, instead: str = "",
    knows: str = "", silent: str = "",
) -> Instruction:  # fmt: skip
    return Instruction(feature, assembly, bytes.fromhex(code), needs, ring, answer, instead, knows, silent)


def _tiles(feature: str, assembly: str, code: str) -> Instruction:
    """Three tiles of one row of four bytes, an instruction on them, and the tiles given back."""
    shape = "mov byte ptr [rdi], 1; mov dword ptr [rdi+16], 0x40004; mov word ptr [rdi+20], 4; mov dword ptr [rdi+48], 0x10101"
    shape_code = "c6 07 01 c7 47 10 04 00 04 00 66 c7 47 14 04 00 c7 47 30 01 01 01 00"
    return _try(feature, f"{shape}; ldtilecfg [rdi]; {assembly}; tilerelease", f"{shape_code} c4 e2 78 49 07 {code} c4 e2 78 49 c0", AMX)


_HINT = "without the feature it is a NOP"
_PREFIX = "without the feature the prefix is ignored"

INSTRUCTIONS: tuple[Instruction, ...] = (
    _try("fpu", "fninit", "db e3"),
    _try("tsc", "rdtsc", "0f 31"),
    _try("cx8", "cmpxchg8b [rdi]", "0f c7 0f"),
    _try("cmov", "cmovne eax, ecx", "0f 45 c1"),
    _try("clflush", "clflush [rdi]", "0f ae 3f"),
    _try("mmx", "paddb mm0, mm1", "0f fc c1"),
    _try("fxsr", "fxsave [rdi]", "0f ae 07"),
    _try("sse", "addps xmm0, xmm1", "0f 58 c1"),
    _try("sse2", "paddb xmm0, xmm1", "66 0f fc c1"),
    _try("sse3", "addsubps xmm0, xmm1", "f2 0f d0 c1"),
    _try("ssse3", "pshufb xmm0, xmm1", "66 0f 38 00 c1"),
    _try("sse4_1", "pminsb xmm0, xmm1", "66 0f 38 38 c1"),
    _try("sse4_2", "pcmpgtq xmm0, xmm1", "66 0f 38 37 c1"),
    _try("sse4a", "extrq xmm0, xmm1", "66 0f 79 c1"),
    _try("3dnow", "pfadd mm0, mm1", "0f 0f c1 9e"),
    _try("3dnowext", "pswapd mm0, mm1", "0f 0f c1 bb"),
    _try("3dnowprefetch", "prefetchw [rdi]", "0f 0d 0f", silent=_HINT),
    _try("cx16", "cmpxchg16b [rdi]", "48 0f c7 0f"),
    _try("lahf_lm", "lahf", "9f"),
    _try("popcnt", "popcnt eax, ecx", "f3 0f b8 c1"),
    _try("abm", "lzcnt eax, ecx", "f3 0f bd c1", answer=32, instead="BSR"),
    _try("movbe", "movbe eax, [rdi]", "0f 38 f0 07"),
    _try("bmi1", "andn eax, ecx, edx", "c4 e2 70 f2 c2"),
    _try("bmi1", "tzcnt eax, ecx", "f3 0f bc c1", answer=32, instead="BSF"),
    _try("bmi2", "pext eax, ecx, edx", "c4 e2 72 f5 c2"),
    _try("tbm", "blcfill eax, ecx", "8f e9 78 01 c9"),
    _try("adx", "adcx eax, ecx", "66 0f 38 f6 c1"),
    _try("aes", "aesenc xmm0, xmm1", "66 0f 38 dc c1"),
    _try("pclmulqdq", "pclmulqdq xmm0, xmm1, 0", "66 0f 3a 44 c1 00"),
    _try("sha_ni", "sha1nexte xmm0, xmm1", "0f 38 c8 c1"),
    _try("gfni", "gf2p8mulb xmm0, xmm1", "66 0f 38 cf c1"),
    _try("xsave", "xgetbv", "0f 01 d0", XSAVE),
    _try("xsave", "xsave [rdi]", "0f ae 27", XSAVE),
    _try("xsaveopt", "xsaveopt [rdi]", "0f ae 37", XSAVE),
    _try("xsavec", "xsavec [rdi]", "0f c7 27", XSAVE),
    _try("xgetbv1", "mov ecx, 1; xgetbv", "b9 01 00 00 00 0f 01 d0", XSAVE),
    _try("xsaves", "xsaves [rdi]", "0f c7 2f", XSAVE, ring=0),
    _try("avx", "vaddps ymm0, ymm1, ymm2", "c5 f4 58 c2", AVX),
    _try("f16c", "vcvtph2ps ymm0, xmm1", "c4 e2 7d 13 c1", AVX),
    _try("fma", "vfmadd132ps ymm0, ymm1, ymm2", "c4 e2 75 98 c2", AVX),
    _try("fma4", "vfmaddps ymm0, ymm1, ymm2, ymm3", "c4 e3 f5 68 c3 20", AVX),
    _try("xop", "vphaddbd xmm0, xmm1", "8f e9 78 c2 c1", AVX),
    _try("lwp", "slwpcb rax", "8f e9 f8 12 c8", LWP),
    _try("avx2", "vpaddd ymm0, ymm1, ymm2", "c5 f5 fe c2", AVX),
    _try("vaes", "vaesenc ymm0, ymm1, ymm2", "c4 e2 75 dc c2", AVX),
    _try("vpclmulqdq", "vpclmulqdq ymm0, ymm1, ymm2, 0", "c4 e3 75 44 c2 00", AVX),
    _try("avx_vnni", "{vex} vpdpbusd ymm0, ymm1, ymm2", "c4 e2 75 50 c2", AVX),
    _try("avx-ifma", "{vex} vpmadd52luq ymm0, ymm1, ymm2", "c4 e2 f5 b4 c2", AVX),
    _try("avx-vnni-int8", "vpdpbssd ymm0, ymm1, ymm2", "c4 e2 77 50 c2", AVX),
    _try("avx-vnni-int16", "vpdpwsud ymm0, ymm1, ymm2", "c4 e2 76 d2 c2", AVX),
    _try("avx-ne-convert", "vcvtneeph2ps ymm0, [rdi]", "c4 e2 7d b0 07", AVX),
    _try("sha512", "vsha512msg1 ymm0, xmm1", "c4 e2 7f cc c1", AVX),
    _try("sm3", "vsm3msg1 xmm0, xmm1, xmm2", "c4 e2 70 da c2", AVX),
    _try("sm4", "vsm4key4 xmm0, xmm1, xmm2", "c4 e2 72 da c2", AVX),
    _try("avx512f", "vpaddd zmm0, zmm1, zmm2", "62 f1 75 48 fe c2", AVX512),
    _try("avx512cd", "vpconflictd zmm0, zmm1", "62 f2 7d 48 c4 c1", AVX512),
    _try("avx512er", "vrcp28ps zmm0, zmm1", "62 f2 7d 48 ca c1", AVX512),
    _try("avx512pf", "vgatherpf0dps [rdi+zmm0]{k1}", "62 f2 7d 49 c6 0c 07", AVX512),
    _try("avx512dq", "vpmullq zmm0, zmm1, zmm2", "62 f2 f5 48 40 c2", AVX512),
    _try("avx512bw", "vpaddb zmm0, zmm1, zmm2", "62 f1 75 48 fc c2", AVX512),
    _try("avx512vl", "vpaddd ymm16, ymm1, ymm2", "62 e1 75 28 fe c2", AVX512),
    _try("avx512ifma", "vpmadd52luq zmm0, zmm1, zmm2", "62 f2 f5 48 b4 c2", AVX512),
    _try("avx512vbmi", "vpermb zmm0, zmm1, zmm2", "62 f2 75 48 8d c2", AVX512),
    _try("avx512_vbmi2", "vpcompressb zmm0, zmm1", "62 f2 7d 48 63 c8", AVX512),
    _try("avx512_vnni", "vpdpbusd zmm0, zmm1, zmm2", "62 f2 75 48 50 c2", AVX512),
    _try("avx512_bitalg", "vpopcntb zmm0, zmm1", "62 f2 7d 48 54 c1", AVX512),
    _try("avx512_vpopcntdq", "vpopcntd zmm0, zmm1", "62 f2 7d 48 55 c1", AVX512),
    _try("avx512_4vnniw", "vp4dpwssd zmm0, zmm4, [rdi]", "62 f2 5f 48 52 07", AVX512),
    _try("avx512_4fmaps", "v4fmaddps zmm0, zmm4, [rdi]", "62 f2 5f 48 9a 07", AVX512),
    _try("avx512_vp2intersect", "vp2intersectd k0, zmm0, zmm1", "62 f2 7f 48 68 c1", AVX512),
    _try("avx512_bf16", "vcvtneps2bf16 ymm0, zmm1", "62 f2 7e 48 72 c1", AVX512),
    _try("avx512_fp16", "vaddph zmm0, zmm1, zmm2", "62 f5 74 48 58 c2", AVX512),
    _try("amx_tile", "tilerelease", "c4 e2 78 49 c0", AMX),
    _tiles("amx_int8", "tdpbssd tmm0, tmm1, tmm2", "c4 e2 6b 5e c1"),
    _tiles("amx_bf16", "tdpbf16ps tmm0, tmm1, tmm2", "c4 e2 6a 5c c1"),
    _tiles("amx-fp16", "tdpfp16ps tmm0, tmm1, tmm2", "c4 e2 6b 5c c1"),
    _tiles("amx-complex", "tcmmimfp16ps tmm0, tmm1, tmm2", "c4 e2 69 6c c1"),
    _try("rdrand", "rdrand eax", "0f c7 f0"),
    _try("rdseed", "rdseed eax", "0f c7 f8"),
    _try("rtm", "xtest", "0f 01 d6"),
    _try("rtm", "xbegin 1f; xend; 1:", "c7 f8 03 00 00 00 0f 01 d5"),
    _try("hle", "xacquire lock inc dword ptr [rdi]", "f2 f0 ff 07", silent=_PREFIX),
    _try("tsxldtrk", "xresldtrk", "f2 0f 01 e9"),
    _try("fsgsbase", "rdfsbase rax", "f3 48 0f ae c0", FSGSBASE),
    _try("rdtscp", "rdtscp", "0f 01 f9"),
    _try("rdpid", "rdpid rax", "f3 0f c7 f8"),
    _try("rdpru", "rdpru", "0f 01 fd"),
    _try("pku", "rdpkru", "0f 01 ee", PKE),
    _try("ibt", "endbr64", "f3 0f 1e fa", silent=_HINT),
    _try("shstk", "rdsspq rax", "f3 48 0f 1e c8", silent=_HINT),
    _try("clflushopt", "clflushopt [rdi]", "66 0f ae 3f"),
    _try("clwb", "clwb [rdi]", "66 0f ae 37"),
    _try("clzero", "mov rax, rdi; clzero", "48 89 f8 0f 01 fc"),
    _try("cldemote", "cldemote [rdi]", "0f 1c 07", silent=_HINT),
    _try("mwaitx", "mov rax, rdi; monitorx", "48 89 f8 0f 01 fa"),
    _try("waitpkg", "umonitor rdi", "f3 0f ae f7"),
    _try("waitpkg", "tpause ecx", "66 0f ae f1"),
    _try("serialize", "serialize", "0f 01 e8"),
    _try("movdiri", "movdiri [rdi], eax", "0f 38 f9 07"),
    _try("movdir64b", "movdir64b rdi, [rsi]", "66 0f 38 f8 3e"),
    _try("enqcmd", "enqcmd rdi, [rsi]", "f2 0f 38 f8 3e", knows="#GP"),
    _try("cmpccxadd", "cmpoxadd [rdi], eax, ecx", "c4 e2 71 e0 07"),
    _try("msr", "mov ecx, 0x10; rdmsr", "b9 10 00 00 00 0f 32", ring=0),
    _try("wrmsrns", "mov ecx, 0xc0000102; wrmsrns", "b9 02 01 00 c0 0f 01 c6", ring=0),
    _try("monitor", "mov rax, rdi; monitor", "48 89 f8 0f 01 c8", ring=0),
    _try("invpcid", "mov eax, 2; invpcid rax, [rdi]", "b8 02 00 00 00 66 0f 38 82 07", ring=0),
    _try("smap", "clac", "0f 01 ca", ring=0),
    _try("smap", "stac", "0f 01 cb", ring=0),
    _try("svm", "stgi", "0f 01 dc", SVME, ring=0),
    _try("wbnoinvd", "wbnoinvd", "f3 0f 09", ring=0, silent="without the feature it is WBINVD"),
)


def instructions_of(features: Iterable[str]) -> tuple[Instruction, ...]:
    """Give the instructions of some features, of all where none is named.

    Raises InputError for an unknown name, and for a feature that has no instruction which could be tried.
    """
    wanted = {name: find(name).bit for name in features}
    if not wanted:
        return INSTRUCTIONS
    known = {find(instruction.feature).bit for instruction in INSTRUCTIONS}
    for name, bit in wanted.items():
        if bit not in known:
            raise InputError(f"{name} has no instruction that can be tried")
    return tuple(instruction for instruction in INSTRUCTIONS if find(instruction.feature).bit in wanted.values())
