//===- ArtifactTest.cpp - Container, hash, manifest, features -------------===//
//
// Round trips, published hash values, and damage at every byte.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/Support.h"

#include "runtime/src/features.h"
#include "runtime/src/manifest.h"
#include "runtime/src/sha256.h"
#include "runtime/src/softfloat.h"

#include <bit>
#include <cmath>
#include <random>

using namespace heddle::rt;
using namespace heddle::rt::test;

// The examples of FIPS 180-4's test vectors (NIST CSRC).
TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(toHex(sha256("", 0)), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(toHex(sha256("abc", 3)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  EXPECT_EQ(toHex(sha256(two.data(), two.size())), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  std::string million(1000000, 'a');
  EXPECT_EQ(toHex(sha256(million.data(), million.size())),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesDoNotMatter) {
  std::mt19937 random(1);
  std::string text(777, 0);
  for (char &c : text) {
    c = char(random());
  }
  for (size_t length = 0; length <= text.size(); ++length) {
    Sha256 hash;
    for (size_t at = 0; at < length;) {
      size_t piece = std::min<size_t>(1 + random() % 150, length - at);
      hash.update(text.data() + at, piece);
      at += piece;
    }
    ASSERT_EQ(hash.finish(), sha256(text.data(), length)) << length;
  }
}

TEST(Artifact, RoundTrip) {
  std::string bytes = writeArtifact("{\"a\": 1}", std::string("\0object\xff", 8));
  Artifact artifact;
  ASSERT_FALSE(readArtifact(bytes, artifact));
  EXPECT_EQ(artifact.manifest, "{\"a\": 1}");
  EXPECT_EQ(artifact.object, std::string("\0object\xff", 8));
}

TEST(Artifact, WrittenThroughC) {
  void *bytes = nullptr;
  size_t size = 0;
  ASSERT_EQ(take(heddle_artifact_write("{}", 2, "object", 6, &bytes, &size)), "");
  EXPECT_EQ(std::string(static_cast<char *>(bytes), size), writeArtifact("{}", "object"));
  heddle_free(bytes);
}

TEST(Artifact, EveryTruncationAndEveryFlippedBitIsFound) {
  std::string bytes = writeArtifact("manifest", "object");
  Artifact artifact;
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_TRUE(readArtifact(std::string_view(bytes).substr(0, length), artifact)) << length;
  }
  EXPECT_TRUE(readArtifact(bytes + "x", artifact));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = char(damaged[bit / 8] ^ 1 << bit % 8);
    EXPECT_TRUE(readArtifact(damaged, artifact)) << bit;
  }
}

TEST(Manifest, Reads) {
  Manifest m;
  ASSERT_FALSE(parseManifest(copyManifest(), m));
  EXPECT_EQ(m.entry, "heddle_task");
  EXPECT_EQ(m.args.size(), 4u);
  EXPECT_EQ(m.q, 0);
  EXPECT_EQ(m.segments.at(0).k, 1);
  EXPECT_EQ(m.segments.at(0).v, 2);
  EXPECT_EQ(m.qOffset.kind, Offset::Arg);
  EXPECT_EQ(m.qOffset.arg, 3);
}

TEST(Manifest, EveryTruncationIsAnError) {
  std::string text = copyManifest();
  for (size_t length = 0; length < text.size(); ++length) {
    Manifest m;
    EXPECT_TRUE(parseManifest(text.substr(0, length), m)) << length;
  }
}

TEST(Manifest, MutationsNeverCrash) {
  std::mt19937 random(2);
  std::string text = copyManifest();
  for (int round = 0; round < 20000; ++round) {
    std::string mutant = text;
    for (int i = 0; i <= round % 3; ++i) {
      size_t at = random() % mutant.size();
      switch (random() % 4) {
      case 0:
        mutant[at] = char(random());
        break;
      case 1:
        mutant.erase(at, 1 + random() % 20);
        break;
      case 2:
        mutant.insert(at, text.substr(random() % text.size(), random() % 40));
        break;
      default:
        mutant[at] = "0123456789-\"[]{},:"[random() % 18];
        break;
      }
      if (mutant.empty()) {
        mutant = "{";
      }
    }
    Manifest m;
    Error e = parseManifest(mutant, m);
    if (!e) { // what passes is safe to use
      EXPECT_GE(m.q, 0);
      EXPECT_LT(size_t(m.q), m.args.size());
      EXPECT_EQ(m.args[m.q].dims.size(), 4u);
      EXPECT_GT(m.superTile, 0);
    }
  }
  Manifest deep;
  EXPECT_TRUE(parseManifest(std::string(1000000, '['), deep));
}

TEST(Manifest, SaysWhatIsWrong) {
  Manifest m;
  auto message = [&](const std::string &text) {
    Manifest fresh;
    Error e = parseManifest(text, fresh);
    return e ? e->message : "";
  };
  EXPECT_NE(message(copyManifest(R"({"kind": "arg", "arg": 4})")).find("unknown argument"), std::string::npos);
  EXPECT_NE(message(copyManifest(R"({"kind": "north"})")).find("'north'"), std::string::npos);
}

TEST(Features, LevelsImplyWhatThePsabiSays) {
  EXPECT_EQ(missingFeature("x86-64-v3", "x86-64-v4,+avx512vnni"), "");
  EXPECT_EQ(missingFeature("x86-64-v4", "x86-64-v3"), "x86-64-v4");
  EXPECT_EQ(missingFeature("x86-64-v3,+avx512bf16", "x86-64-v4,+avx512vnni"), "+avx512bf16");
  EXPECT_EQ(missingFeature("+avx2,+fma", "x86-64-v3"), "");
  EXPECT_EQ(missingFeature("+avx512f", "x86-64-v3"), "+avx512f");
  EXPECT_EQ(missingFeature("x86-64-v4,-amx-tile", "x86-64-v4"), "");
  EXPECT_EQ(missingFeature("x86-64-v9", "x86-64-v4"), "x86-64-v9");
  EXPECT_EQ(missingFeature("", "x86-64"), "");
}

TEST(Features, HostHasWhatItSays) {
  std::string host = heddle_host_features();
  EXPECT_EQ(host.substr(0, 6), "x86-64");
  EXPECT_EQ(missingFeature(host, host), "");
  bool v3 = __builtin_cpu_supports("x86-64-v3"), v4 = __builtin_cpu_supports("x86-64-v4");
  EXPECT_EQ(missingFeature("x86-64-v3", host).empty(), v3);
  EXPECT_EQ(missingFeature("x86-64-v4", host).empty(), v4);
}

TEST(SoftFloat, HalfIsExactBothWays) {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    float value = halfToFloat(uint16_t(bits));
    int exponent = int(bits >> 10 & 31), mantissa = int(bits & 1023);
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(halfToFloat(floatToHalf(value))));
      continue;
    }
    double expected = exponent == 31  ? HUGE_VAL
                      : exponent == 0 ? std::ldexp(mantissa, -24)
                                      : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(double(value), bits & 0x8000 ? -expected : expected) << bits;
    ASSERT_EQ(floatToHalf(value), bits);
  }
}

TEST(SoftFloat, RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) { // between neighbors, the tie goes to the even one
    float low = halfToFloat(uint16_t(bits)), high = halfToFloat(uint16_t(bits + 1)), tie = (low + high) / 2;
    uint16_t even = uint16_t(bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(floatToHalf(tie), even) << bits;
    ASSERT_EQ(floatToHalf(std::nextafter(tie, 0.0f)), bits) << bits;
    ASSERT_EQ(floatToHalf(std::nextafter(tie, HUGE_VALF)), bits + 1) << bits;
  }
  EXPECT_EQ(floatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(floatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(floatToBfloat(std::bit_cast<float>(0x3f808000u)), 0x3f80);
  EXPECT_EQ(floatToBfloat(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(floatToBfloat(std::bit_cast<float>(0x7f7fffffu)), 0x7f80);
  EXPECT_NE(floatToBfloat(std::bit_cast<float>(0x7f800001u)) & 0x7f, 0);
}
