"""Words that no name of a compiled library may be (floor 8): of C, C++, and their headers."""

from __future__ import annotations

import re

_WORDS = frozenset(
    # of C and C++
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl "
    "concept const constexpr continue decltype default delete do double else enum explicit "
    "export extern false float for friend goto if inline int long main mutable namespace new "
    "noexcept not not_eq nullptr operator or or_eq private protected public register "
    "reinterpret_cast requires restrict return short signed sizeof static static_assert "
    "struct switch template this thread_local throw true try typedef typeid typename typeof "
    "union unsigned using virtual void volatile wchar_t while xor xor_eq "
    # of C++ since 2011, and their siblings
    "char8_t char16_t char32_t co_await co_return co_yield const_cast consteval constinit "
    "dynamic_cast static_cast "
    # names of the functions' own parameters and members
    "state weights workspace workspace_bytes graphc_layout "
    # types of the headers that the library's includes
    "int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t "
    # macros without arguments that compilers and the headers of ISO C define
    "linux unix i386 NULL errno stdin stdout stderr EOF BUFSIZ FILENAME_MAX FOPEN_MAX L_tmpnam "
    "SEEK_CUR SEEK_END SEEK_SET TMP_MAX EXIT_FAILURE EXIT_SUCCESS RAND_MAX MB_CUR_MAX "
    "CLOCKS_PER_SEC TIME_UTC EDOM EILSEQ ERANGE HUGE_VAL HUGE_VALF HUGE_VALL INFINITY NAN "
    "I complex imaginary noreturn NDEBUG WEOF DECIMAL_DIG ONCE_FLAG_INIT math_errhandling "
    "MATH_ERRNO MATH_ERREXCEPT SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_ERR "
    "SIG_IGN".split()
)
# Families of such macros: limits, formats, of floating point, locale and constants.
_FAMILIES = re.compile(
    r"(?:(?:U?INT(?:_LEAST|_FAST)?(?:8|16|32|64)|U?INT(?:PTR|MAX)?|S?SIZE|PTRDIFF|SIG_ATOMIC"
    r"|WCHAR|WINT|CHAR|[SU]CHAR|U?SHRT|U?LONG|U?LLONG|MB_LEN|PATH|NAME)_(?:MAX|MIN|BIT|WIDTH)"
    r"|(?:PRI|SCN)[diouxX](?:LEAST|FAST)?(?:8|16|32|64|MAX|PTR)"
    r"|(?:FLT|DBL|LDBL|FP|FE|LC)_[A-Z0-9_]+|M_(?:[12]_)?(?:E|PI|LN|LOG|SQRT)[A-Z0-9_]*)\Z"
)
# Headers of ISO C and POSIX: a file of such a name in an include folder hides them.
_HEADERS = frozenset(
    "aio assert complex cpio ctype dirent dlfcn errno fcntl fenv float fmtmsg fnmatch ftw glob grp "
    "iconv inttypes iso646 langinfo libgen limits locale math monetary mqueue ndbm netdb "
    "nl_types poll pthread pwd regex sched search semaphore setjmp signal spawn stdalign stdarg "
    "stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string strings "
    "stropts syslog tar termios tgmath threads time trace uchar ulimit unistd utime utmpx wchar "
    "wctype wordexp alloca endian elf features link malloc memory values".split()
)


def is_word(name: str) -> bool:
    """Whether C, C++ or their headers give the name a meaning of its own."""
    return name in _WORDS or _FAMILIES.match(name) is not None


def why_not_a_library(name: str) -> str:
    """Why an identifier cannot name a library; empty where it can."""
    if is_word(name):
        return "a word of C or C++"
    if name == "std":
        return "the namespace of the C++ library"
    if name in _HEADERS:
        return f"a header of the system: {name}.h would be found in place of <{name}.h>"
    return ""
